-- Whether this database has been laid out as a warehouse before: one row if so.
SELECT table_name
FROM duckdb_tables()
WHERE database_name = current_database() AND schema_name = 'ops' AND table_name = 'schema_version';
