-- Have DuckDB use so many threads.
-- param threads: how many
SET threads = $threads
