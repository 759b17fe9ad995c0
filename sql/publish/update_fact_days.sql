-- Count again the days of marts.fct_requests that changed; all of them after the facts were built from the
-- start. Sums of row hashes do not depend on the order of rows, nor cancel like an xor.
-- param since: no earlier instant changed, TIMESTAMPTZ; null: every day is counted
DELETE FROM ops.fact_days
WHERE
    CAST($since AS TIMESTAMPTZ) IS NULL
    OR day IN (SELECT day FROM ops.changed_facts WHERE changed_facts.consumer = 'publishing');

INSERT INTO ops.fact_days
SELECT
    CAST(fct_requests.timestamp AS DATE) AS day,
    count(*) AS row_count,
    CAST(sum(hash(fct_requests)) AS VARCHAR) AS digest
FROM marts.fct_requests
WHERE
    CAST($since AS TIMESTAMPTZ) IS NULL
    OR (
        fct_requests.timestamp >= date_trunc('day', CAST($since AS TIMESTAMPTZ))
        AND CAST(fct_requests.timestamp AS DATE) IN (
            SELECT changed_facts.day FROM ops.changed_facts WHERE changed_facts.consumer = 'publishing'
        )
    )
GROUP BY ALL;

DELETE FROM ops.changed_facts WHERE changed_facts.consumer = 'publishing';
