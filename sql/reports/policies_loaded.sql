-- The text of every policy that a gate has loaded, as the decision log tells.
SELECT DISTINCT policy_text
FROM raw.policy_decisions
WHERE event = 'policy_loaded' AND policy_text IS NOT NULL
