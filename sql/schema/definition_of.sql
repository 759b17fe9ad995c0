-- What a table was built with, and the logs' own now at that build.
-- param table_name: the table
SELECT definition, as_of FROM ops.derivations WHERE derivations.table_name = $table_name
