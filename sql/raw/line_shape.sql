-- What a line of a log holds, as `from_json` takes it: the columns of its table and their types.
-- param table_name: the table in `raw`
SELECT json_group_object(column_name, data_type)
FROM duckdb_columns()
WHERE
    database_name = current_database()
    AND schema_name = 'raw'
    AND table_name = $table_name
    AND column_name NOT IN ('file_id', 'line_offset')
