-- Which experiment increased cost without improving outcome? One row per experiment, dearest average
-- first. Reads the arms (sql/marts/experiment_arms.sql) and the verdicts that
-- governance_pipeline.statistics reached from them.
SELECT
    arms.experiment_id,
    arms.avg_tokens_in,
    arms.avg_tokens_out,
    (CAST(arms.dollars AS DOUBLE) + CAST(arms.nanos AS DOUBLE) / 1e9) / nullif(arms.priced_count, 0)
        AS avg_cost_usd,
    CAST(arms.success_count AS DOUBLE) / arms.request_count AS success_rate,
    arms.request_count,
    arms.priced_count,
    arms.request_count - arms.priced_count AS unpriced_count,
    arms.control_id,
    verdicts.cost_delta_pct,
    verdicts.success_delta,
    verdicts.p_value_cost,
    verdicts.p_value_success,
    verdicts.verdict
FROM temp.experiment_arms AS arms
INNER JOIN temp.experiment_verdicts AS verdicts ON arms.experiment_id = verdicts.experiment_id
WHERE arms.arm = 'treatment'
ORDER BY avg_cost_usd DESC NULLS LAST, arms.experiment_id;
