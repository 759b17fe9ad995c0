-- Stage every line of the log.
CREATE OR REPLACE TEMP VIEW decisions_to_stage AS SELECT * FROM raw.policy_decisions
