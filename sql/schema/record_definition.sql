-- Record what a table has just been built with.
-- param table_name: the table
-- param definition: SHA-256 of its statements and configuration
-- param as_of: the logs' own now, null where the table does not depend on it
DELETE FROM ops.derivations WHERE derivations.table_name = $table_name;
INSERT INTO ops.derivations VALUES ($table_name, $definition, $as_of);
