-- A consumer has looked at what changed.
-- param consumer: anomalies or publishing
DELETE FROM ops.changed_facts WHERE changed_facts.consumer = $consumer
