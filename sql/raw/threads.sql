-- How many threads DuckDB may use.
SELECT CAST(current_setting('threads') AS BIGINT)
