-- Have a table built from the start the next time.
-- param table_name: the table
DELETE FROM ops.derivations WHERE derivations.table_name = $table_name
