-- How many lines have been noted.
SELECT count(*) FROM temp.lines_to_stage
