-- The policies that gates have loaded, as the decision log tells, where a decision needs them: when none lacks
-- its expiry there are no rows.
SELECT policy_hash, timestamp AS loaded_at, policy_text
FROM raw.policy_decisions
WHERE
    event = 'policy_loaded'
    AND policy_text IS NOT NULL
    AND EXISTS (
        FROM staging.stg_decisions
        WHERE reservation_expires_at IS NULL AND stg_decisions.decision IS DISTINCT FROM 'deny'
    )
ORDER BY timestamp, file_id, line_offset
