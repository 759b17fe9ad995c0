-- The columns that two tables of the raw layer have in common; none where one of them is missing.
-- param table_name: one
-- param aside: the other
SELECT present.column_name
FROM duckdb_columns() AS present
INNER JOIN duckdb_columns() AS before
    ON present.column_name = before.column_name
    AND present.database_name = before.database_name
    AND present.schema_name = before.schema_name
WHERE
    present.database_name = current_database()
    AND present.schema_name = 'raw'
    AND present.table_name = $table_name
    AND before.table_name = $aside
ORDER BY present.column_index
