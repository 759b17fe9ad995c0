-- One registered experiment of economics.yaml.
-- param experiment_id: the experiment
-- param control_id: what it is compared with
INSERT INTO temp.economics_experiments VALUES ($experiment_id, $control_id);
