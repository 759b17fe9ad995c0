-- One experiment's verdict.
-- param experiment_id: the experiment
-- param cost_delta_pct: its mean cost above its control's, in per cent
-- param success_delta: its success rate less its control's
-- param p_value_cost: two-sided, of the difference in mean cost
-- param p_value_success: two-sided, of the difference in success rate
-- param verdict: what they come to
INSERT INTO temp.experiment_verdicts
VALUES ($experiment_id, $cost_delta_pct, $success_delta, $p_value_cost, $p_value_success, $verdict);
