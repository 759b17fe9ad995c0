-- What a mart was built with besides the logs: the last build of each. No clock time, so that a rebuild
-- is identical.
-- param mart: name of the table
-- param as_of: the logs' own now at the build
-- param since: start of the period asked about, null for all
-- param threshold_usd: threshold asked for, null for none
-- param economics_hash: of economics.yaml, `none` without one
CREATE TABLE IF NOT EXISTS ops.mart_configuration (
    mart VARCHAR PRIMARY KEY,
    as_of TIMESTAMPTZ,
    since TIMESTAMPTZ,
    threshold_usd DOUBLE,
    economics_hash VARCHAR NOT NULL
);

INSERT OR REPLACE INTO ops.mart_configuration
VALUES ($mart, $as_of, $since, $threshold_usd, $economics_hash);
