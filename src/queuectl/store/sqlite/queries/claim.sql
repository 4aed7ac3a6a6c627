-- anything_delayed_due: whether a job waits whose time has come
SELECT EXISTS (SELECT 1 FROM job WHERE due = 0 AND run_at <= ?);

-- promote: into the line with those whose time has come, longest due first, a bounded number
UPDATE job SET due = 1
WHERE number IN (SELECT number FROM job WHERE due = 0 AND run_at <= ? ORDER BY run_at LIMIT ?);

-- queues_ready: the queues in which a job is due, by one look into the index for each
WITH RECURSIVE line (queue) AS (
    SELECT min(queue) FROM job WHERE due = 1
    UNION ALL
    SELECT (SELECT min(queue) FROM job WHERE due = 1 AND queue > line.queue) FROM line WHERE line.queue IS NOT NULL
)
SELECT queue FROM line WHERE queue IS NOT NULL;

-- queue_settings: the queues somebody has paused or limited, with how many jobs each is processing
SELECT key, value, coalesce((SELECT n FROM tally WHERE queue = key AND state = 'processing'), 0)
FROM shared WHERE name = 'queues';

-- ready: the first jobs of a queue
SELECT sort_key, number FROM job WHERE due = 1 AND queue = ? ORDER BY sort_key, number LIMIT ?;

-- take: to a worker; only ever run on jobs read in the same transaction
UPDATE job SET state = 'processing', due = NULL, version = version + 1, updated_at = ?, attempts = ?,
    attempt_id = ?, worker = ?, claimed_at = ?, lease_until = ?, slot = ?, pid = ?, lease_started_at = ?
WHERE number = ?;

-- extend: the lease of an attempt read in the same transaction
UPDATE job SET version = version + 1, updated_at = ?, lease_until = ? WHERE number = ?;

-- set_aside: a job that cannot be decoded; everything else of it stays as it is
UPDATE job SET due = NULL, version = CASE WHEN version < 1 << 62 THEN version + 1 ELSE version END,
    state = CASE state WHEN 'pending' THEN 'held' WHEN 'failed' THEN 'held' WHEN 'processing' THEN 'held' ELSE state END,
    attempt_id = NULL, worker = NULL, claimed_at = NULL, lease_until = NULL, slot = NULL, pid = NULL,
    lease_started_at = NULL
WHERE number = ?;

-- lapsed: claims whose lease has ended, longest ago first
SELECT {columns} FROM job LEFT JOIN spec USING (number)
WHERE state = 'processing' AND lease_until <= ? ORDER BY lease_until, job.number LIMIT ?;

-- ready_since: when the longest due of a queue's first jobs became due
SELECT min(run_at) FROM (SELECT run_at FROM job WHERE due = 1 AND queue = ? ORDER BY sort_key, number LIMIT ?);

-- overdue: the same of delayed jobs that no claim has brought into the line yet
SELECT queue, min(run_at) FROM (SELECT queue, run_at FROM job WHERE due = 0 AND run_at <= ? ORDER BY run_at LIMIT ?)
GROUP BY queue;
