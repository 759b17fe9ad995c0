-- The arms as the verdict is reached from them, in a fixed order.
SELECT
    experiment_id,
    control_id,
    arm,
    request_count,
    success_count,
    priced_count,
    dollars,
    nanos,
    dollars_dollars,
    dollars_nanos,
    nanos_nanos
FROM temp.experiment_arms
ORDER BY experiment_id, arm;
