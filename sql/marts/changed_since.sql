-- The earliest instant of the facts that changed since a consumer looked, null when none did.
-- param consumer: anomalies or publishing
SELECT min(earliest) FROM ops.changed_facts WHERE changed_facts.consumer = $consumer
