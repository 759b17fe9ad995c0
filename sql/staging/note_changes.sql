-- Hand on the requests that were staged.
INSERT INTO ops.changed_requests SELECT DISTINCT request_id FROM temp.lines_to_stage;
