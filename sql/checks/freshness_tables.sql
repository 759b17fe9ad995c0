-- Since when a file has been seen with lines beyond what was ingested.
CREATE TABLE IF NOT EXISTS ops.unread_since (
    path VARCHAR PRIMARY KEY,
    ingested_bytes BIGINT NOT NULL,
    since_seconds DOUBLE NOT NULL          -- seconds since 1970, by this machine's clock
)
