-- Stage every line of the log.
CREATE OR REPLACE TEMP VIEW telemetry_to_stage AS SELECT * FROM raw.telemetry
