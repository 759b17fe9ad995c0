-- How a session computes: in UTC, with bounded memory, and without a progress bar in what a command prints.
-- param memory_limit: such as 1024MB
-- param temp_directory: where what does not fit goes meanwhile
SET TimeZone = 'UTC';
SET memory_limit = $memory_limit;
SET temp_directory = $temp_directory;
SET enable_progress_bar = false;
