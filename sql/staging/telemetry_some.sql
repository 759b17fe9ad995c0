-- Stage the lines that `lines_to_stage` names.
CREATE OR REPLACE TEMP VIEW telemetry_to_stage AS
SELECT * FROM raw.telemetry WHERE rowid IN (SELECT line_rowid FROM temp.lines_to_stage)
