-- One revenue rule of economics.yaml.
-- param rule_number: its place in the file, from 1
-- param tenant_id: tenant it asks for, null for any
-- param feature_id: feature it asks for, null for any
-- param route_name: route it asks for, null for any
-- param revenue_per_request_usd: earned by a successful request
INSERT INTO temp.economics_revenue
VALUES ($rule_number, $tenant_id, $feature_id, $route_name, $revenue_per_request_usd);
