-- holder_of: the number of the job that is processing under this attempt, or is being imported
SELECT number FROM job WHERE id = ? AND (state = 'processing' AND attempt_id = ? OR state = 'held' AND cause = 'moved');

-- keep: one chunk; idempotent
INSERT INTO output (attempt_id, n, job, stream, at, start, data) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- trim: delete the chunks between head and tail
DELETE FROM output WHERE attempt_id = ? AND n > ? AND n < ?;

-- chunks: of an attempt, in order
SELECT job.id, output.attempt_id, n, stream, at, start, data FROM output JOIN job ON job.number = output.job
WHERE output.attempt_id = ? AND n > ? ORDER BY n LIMIT ?;
