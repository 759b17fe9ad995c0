-- Put the facts joined again into the place of what stood there, and note when what changed is dated.
CREATE OR REPLACE TEMP TABLE old_facts AS
SELECT rowid AS fact_rowid, timestamp
FROM marts.fct_requests
WHERE request_id IN (SELECT request_id FROM temp.facts_to_join);

CREATE OR REPLACE TEMP TABLE new_facts AS SELECT * FROM temp.fact_rows;

INSERT INTO ops.changed_facts
SELECT consumers.consumer, CAST(changed.timestamp AS DATE) AS day, min(changed.timestamp) AS earliest
FROM (
    SELECT timestamp FROM temp.old_facts
    UNION ALL
    SELECT timestamp FROM temp.new_facts
) AS changed
CROSS JOIN (VALUES ('anomalies'), ('publishing')) AS consumers (consumer)
GROUP BY consumers.consumer, day;

DELETE FROM marts.fct_requests WHERE rowid IN (SELECT fact_rowid FROM temp.old_facts);
INSERT INTO marts.fct_requests BY NAME SELECT * FROM temp.new_facts ORDER BY timestamp, request_id;
DELETE FROM ops.changed_requests;
