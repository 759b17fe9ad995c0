-- How many lines are quarantined.
SELECT count(*) AS line_count FROM raw.rejected_lines
