-- What the logs were folded to, per charged namespace and hour.
SELECT namespace, hour_us, requests, unknown, nano FROM ops.recounted_spend
