-- One alert, once.
-- param id: of the CloudEvent
-- param type: of the CloudEvent
-- param subject: what it is about
-- param time: when it happened, RFC 3339
-- param recordedtime: when it was written, RFC 3339
-- param message: one sentence
INSERT INTO ops.alerts
VALUES ($id, $type, $subject, CAST($time AS TIMESTAMPTZ), CAST($recordedtime AS TIMESTAMPTZ), $message)
ON CONFLICT DO NOTHING
