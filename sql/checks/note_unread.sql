-- Remember which files have unread lines, and since when at the same offset; forget those that have none.
-- param paths: the files with unread lines, LIST of VARCHAR
-- param offsets: how far each was ingested, LIST of BIGINT
-- param now_seconds: seconds since 1970
DELETE FROM ops.unread_since
WHERE NOT list_contains(
    list_transform(list_zip($paths, $offsets), lambda pair: pair[1] || ':' || pair[2]),
    path || ':' || ingested_bytes
);

INSERT INTO ops.unread_since
SELECT unnest($paths::VARCHAR[]), unnest($offsets::BIGINT[]), $now_seconds
ON CONFLICT DO NOTHING;

SELECT path, since_seconds FROM ops.unread_since
