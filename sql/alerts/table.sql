-- Alerts as alerts.jsonl tells of them.
CREATE TABLE IF NOT EXISTS ops.alerts (
    id VARCHAR PRIMARY KEY,
    type VARCHAR NOT NULL,
    subject VARCHAR NOT NULL,
    time TIMESTAMPTZ NOT NULL,
    recordedtime TIMESTAMPTZ,
    message VARCHAR NOT NULL
)
