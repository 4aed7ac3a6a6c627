-- anything_delayed_due: whether a delayed job is due
SELECT EXISTS (SELECT 1 FROM job WHERE due = 0 AND run_at <= ?);

-- promote: make a bounded number of due delayed jobs ready, longest due first
UPDATE job SET due = 1
WHERE number IN (SELECT number FROM job WHERE due = 0 AND run_at <= ? ORDER BY run_at LIMIT ?);

-- queues_ready: the queues with a ready job, by one index lookup for each
WITH RECURSIVE line (queue) AS (
    SELECT min(queue) FROM job WHERE due = 1
    UNION ALL
    SELECT (SELECT min(queue) FROM job WHERE due = 1 AND queue > line.queue) FROM line WHERE line.queue IS NOT NULL
)
SELECT queue FROM line WHERE queue IS NOT NULL;

-- queue_settings: the settings of queues, with the number of processing jobs of each
SELECT key, value, coalesce((SELECT n FROM tally WHERE queue = key AND state = 'processing'), 0)
FROM shared WHERE name = 'queues';

-- ready: the first jobs of a queue
SELECT sort_key, number FROM job WHERE due = 1 AND queue = ? ORDER BY sort_key, number LIMIT ?;

-- take: claim a job that was read in the same transaction
UPDATE job SET state = 'processing', due = NULL, version = version + 1, updated_at = ?, attempts = ?,
    attempt_id = ?, worker = ?, claimed_at = ?, lease_until = ?, slot = ?, pid = ?, lease_started_at = ?
WHERE number = ?;

-- extend: renew the lease of an attempt that was read in the same transaction, and write its progress
UPDATE job SET version = version + 1, updated_at = ?, lease_until = ?, progress = ? WHERE number = ?;

-- set_aside: a job that cannot be decoded; its other columns stay as they are
UPDATE job SET due = NULL, version = CASE WHEN version < 1 << 62 THEN version + 1 ELSE version END,
    state = CASE state WHEN 'pending' THEN 'held' WHEN 'failed' THEN 'held' WHEN 'processing' THEN 'held' ELSE state END,
    attempt_id = NULL, worker = NULL, claimed_at = NULL, lease_until = NULL, slot = NULL, pid = NULL,
    lease_started_at = NULL
WHERE number = ?;

-- lapsed: claims whose lease has ended, longest ago first
SELECT {columns} FROM job LEFT JOIN spec USING (number)
WHERE state = 'processing' AND lease_until <= ? ORDER BY lease_until, job.number LIMIT ?;

-- ready_since: when the longest waiting job among the first jobs of a queue became due
SELECT min(run_at) FROM (SELECT run_at FROM job WHERE due = 1 AND queue = ? ORDER BY sort_key, number LIMIT ?);

-- overdue: the same for delayed jobs that no claim has made ready yet
SELECT queue, min(run_at) FROM (SELECT queue, run_at FROM job WHERE due = 0 AND run_at <= ? ORDER BY run_at LIMIT ?)
GROUP BY queue;
