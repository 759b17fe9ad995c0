-- Take the valid lines of a file (`incoming_lines`, registered by the loader) into raw.policy_decisions.
-- param file_id: the file they stand in
-- param shape: what is in them (`raw/line_shape`)
INSERT INTO raw.policy_decisions BY NAME
SELECT $file_id AS file_id, line_offset, unnest(from_json(line, $shape)) FROM incoming_lines
