-- Add to the cells what was folded (`recounted_changes`); a cell that all requests have left is none.
CREATE OR REPLACE TEMP TABLE recounted_cells AS
SELECT
    namespace,
    hour_us,
    sum(requests) AS requests,
    sum(unknown) AS unknown,
    CAST(sum(nano) AS DECIMAL(38, 0)) AS nano
FROM (
    SELECT * FROM recounted_changes
    UNION ALL BY NAME
    SELECT recounted_spend.* FROM ops.recounted_spend SEMI JOIN recounted_changes USING (namespace, hour_us)
)
GROUP BY ALL
HAVING sum(requests) != 0;
DELETE FROM ops.recounted_spend
WHERE (namespace, hour_us) IN (SELECT (namespace, hour_us) FROM recounted_changes);
INSERT INTO ops.recounted_spend BY NAME SELECT * FROM temp.recounted_cells
