-- last_number: the highest number that was assigned, also to a job that was deleted since
SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('{schema}.body', 'number')::regclass), 0);

-- claim: the first due jobs
SELECT {columns}
FROM (SELECT *, NULL::text AS progress FROM {schema}.claim_3(%s, %s::text[], %s, %s, %s::text[])) AS job;

-- claim_and_tell: the first due jobs, with the event of each
SELECT {columns}
FROM (SELECT *, NULL::text AS progress FROM {schema}.claim_4(%s, %s::text[], %s, %s, %s::text[])) AS job;

-- renew: the leases of these attempts, and the progress of those that have a new one
WITH renewed AS MATERIALIZED (
    SELECT * FROM {schema}.renew_3(%(worker)s, %(ids)s::text[], %(attempts)s::text[], %(lease)s)
), sent AS (
    SELECT number, text FROM renewed JOIN unnest(%(ids)s::text[], %(progress)s::text[]) AS each (id, text) USING (id)
), noted AS (
    UPDATE {schema}.body SET progress = text FROM sent WHERE body.number = sent.number AND text IS NOT NULL
)
SELECT {columns} FROM (
    SELECT renewed.*, coalesce(text, progress) AS progress
    FROM renewed JOIN sent USING (number) JOIN {schema}.body USING (number)
) AS job;

-- set_aside: jobs that cannot be decoded; their other columns stay as they are
UPDATE {schema}.live SET due = NULL, version = CASE WHEN version < 2147483647 THEN version + 1 ELSE version END,
    state = CASE WHEN state = 'blocked' THEN state ELSE 'held' END,
    attempt_id = NULL, worker = NULL, claimed_at = NULL, lease_until = NULL, slot = NULL, pid = NULL, lease_started_at = NULL
WHERE number = ANY (%s::bigint[]);

-- by_numbers: the jobs of a list, including those without a body
SELECT {columns} FROM {schema}.live AS job LEFT JOIN {schema}.body USING (number) WHERE number = ANY (%(numbers)s::bigint[])
UNION ALL
SELECT {columns} FROM {schema}.ended AS job LEFT JOIN {schema}.body USING (number) WHERE number = ANY (%(numbers)s::bigint[]);

-- delete: every trace of the jobs of a list
WITH lively AS (DELETE FROM {schema}.live WHERE number = ANY (%(numbers)s::bigint[])
), past AS (DELETE FROM {schema}.ended WHERE number = ANY (%(numbers)s::bigint[])
), prints AS (DELETE FROM {schema}.output WHERE job = ANY (%(numbers)s::bigint[]))
DELETE FROM {schema}.body WHERE number = ANY (%(numbers)s::bigint[]);

-- lapsed: claims whose lease has ended, longest ago first
SELECT {columns} FROM {schema}.live AS job LEFT JOIN {schema}.body USING (number)
WHERE state = 'processing' AND lease_until <= {schema}.now() ORDER BY lease_until, number LIMIT %s;

-- add: insert new jobs; the numbers in the order of the batch
SELECT {schema}.add_3(%s::json);

-- add_and_tell: insert new jobs with their events; the numbers in the order of the batch
SELECT {schema}.add_4(%s::json, %s::json);

-- import: insert new jobs, which may bring their numbers; the numbers in the order of the batch
SELECT {schema}.import(%s::json);

-- import_and_tell: insert new jobs, which may bring their numbers, with their events
SELECT {schema}.import_4(%s::json, %s::json);

-- import_progress: the same, for a batch in which jobs bring a progress
SELECT {schema}.import_5(%s::json, %s::json);

-- save: compare-and-swap; which places were accepted, and which were taken
SELECT place, verdict FROM {schema}.save_3(%s::json);

-- save_and_tell: compare-and-swap, which writes the events of the places that were accepted
SELECT place, verdict FROM {schema}.save_4(%s::json, %s::json);

-- save_progress: the same, for a batch in which the progress of a job may have changed
WITH answer AS MATERIALIZED (
    SELECT place, verdict FROM {schema}.save_4(%(jobs)s::json, %(events)s::json)
), noted AS (
    UPDATE {schema}.body SET progress = sent.progress
    FROM json_to_recordset(%(jobs)s::json) AS sent (place integer, id text, progress text) JOIN answer USING (place)
    WHERE verdict = 'accepted' AND body.id = sent.id AND body.progress IS DISTINCT FROM sent.progress
)
SELECT place, verdict FROM answer;

-- by_ids: the jobs of a list
SELECT {columns} FROM {schema}.body JOIN {schema}.live USING (number) WHERE id = ANY (%(ids)s::text[])
UNION ALL
SELECT {columns} FROM {schema}.body JOIN {schema}.ended USING (number) WHERE id = ANY (%(ids)s::text[]);

-- alive_by_key: the job that has not ended and has a unique key
SELECT {columns} FROM {schema}.live AS job JOIN {schema}.body USING (number)
WHERE job.unique_key = %s AND job.unique_key IS NOT NULL;

-- now: the clock of the queue
SELECT {schema}.now();

-- due_since: for each queue, when the longest waiting job among its first jobs became due; one index lookup each
WITH RECURSIVE line (queue) AS (
    (SELECT queue FROM {schema}.live WHERE due = 1 ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT live.queue FROM {schema}.live WHERE due = 1 AND live.queue > line.queue ORDER BY live.queue LIMIT 1)
    FROM line WHERE line.queue IS NOT NULL
)
SELECT queue, min(run_at) FROM (
    SELECT line.queue, head.run_at FROM line, LATERAL (
        SELECT run_at FROM {schema}.live WHERE due = 1 AND live.queue = line.queue ORDER BY sort_key, number LIMIT %s
    ) AS head
    UNION ALL
    (SELECT queue, run_at FROM {schema}.live WHERE due = 0 AND run_at <= (SELECT {schema}.now()) ORDER BY run_at LIMIT 1000)
) AS waiting GROUP BY queue;
