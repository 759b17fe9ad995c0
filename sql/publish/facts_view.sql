-- The published facts in the place where the questions look for them.
CREATE VIEW marts.fct_requests AS SELECT * FROM published_facts
