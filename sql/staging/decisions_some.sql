-- Stage the lines that `lines_to_stage` names.
CREATE OR REPLACE TEMP VIEW decisions_to_stage AS
SELECT * FROM raw.policy_decisions WHERE rowid IN (SELECT line_rowid FROM temp.lines_to_stage)
