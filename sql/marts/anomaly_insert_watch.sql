-- One cost_anomaly rule.
-- param policy_id: the rule
-- param feature_id: the feature it watches, null for every one
-- param threshold_multiplier: an episode's mean cost is above this many times the baseline
-- param min_samples: requests that five minutes must hold
-- param baseline_window_hours: how far back the recent baseline looks
INSERT INTO temp.anomaly_watches
VALUES ($policy_id, $feature_id, $threshold_multiplier, $min_samples, $baseline_window_hours);
