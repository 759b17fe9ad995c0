-- Where the lines to be staged are noted.
CREATE OR REPLACE TEMP TABLE lines_to_stage (line_rowid BIGINT NOT NULL, request_id VARCHAR NOT NULL)
