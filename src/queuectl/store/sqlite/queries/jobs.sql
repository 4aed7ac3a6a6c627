-- last_number: the highest number that a job ever had, including deleted jobs
SELECT seq FROM sqlite_sequence WHERE name = 'job';

-- insert_job: a job, unless its id or its unique key is in use
INSERT INTO job (number, id, created_at, unique_key, batch, version, due, {changing})
VALUES (?, ?, ?, ?, ?, ?, ?, {changing_marks}) ON CONFLICT DO NOTHING;

-- insert_spec: the constant part of a job
INSERT INTO spec (number, spec) VALUES (?, ?);

-- count_from: how many jobs have this number or a higher one
SELECT count(*) FROM job WHERE number >= ?;

-- numbers_from: the jobs that have this number or a higher one
SELECT number FROM job WHERE number >= ?;

-- by_id: one job
SELECT {columns} FROM job LEFT JOIN spec USING (number) WHERE id = ?;

-- by_number: one job by its number
SELECT {columns} FROM job LEFT JOIN spec USING (number) WHERE job.number = ?;

-- by_ids: the jobs of a list
SELECT {columns} FROM job LEFT JOIN spec USING (number) WHERE id IN (SELECT value FROM json_each(?));

-- alive_by_key: the job that has not ended and has a unique key
SELECT {columns} FROM job LEFT JOIN spec USING (number)
WHERE unique_key = ? AND unique_key IS NOT NULL AND finished_at IS NULL;

-- update_job: the changing part of a job, if its version is still the one that was read
UPDATE job SET version = version + 1, due = ?, {changing_set} WHERE id = ? AND version = ?;

-- delete_jobs: jobs of a list of numbers; a trigger deletes what belongs to them
DELETE FROM job WHERE number IN (SELECT value FROM json_each(?));
