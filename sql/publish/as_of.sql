-- The logs' own now at which the facts were built.
SELECT max(as_of) AS as_of FROM ops.mart_configuration WHERE mart = 'fct_requests'
