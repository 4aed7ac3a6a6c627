-- worker_by_id: what is known of a worker and asked of it
SELECT worker, asked FROM worker WHERE id = ?;

-- keep_worker: enter a worker or renew its entry
INSERT INTO worker (id, started_at, worker, asked) VALUES (?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET started_at = excluded.started_at, worker = excluded.worker, asked = excluded.asked;

-- ask: the latest wish counts
UPDATE worker SET asked = ? WHERE id = ?;

-- workers: all, in order of their start
SELECT id, worker FROM worker ORDER BY started_at, id;

-- forget: a worker that has left
DELETE FROM worker WHERE id = ?;

-- entries: of one shared table
SELECT key, value, version FROM shared WHERE name = ?;

-- insert_entry: unless there is one
INSERT INTO shared (name, key, value, version) VALUES (?, ?, ?, 1) ON CONFLICT DO NOTHING;

-- update_entry: if its version is still this
UPDATE shared SET value = ?, version = version + 1 WHERE name = ? AND key = ? AND version = ?;

-- delete_entry: if its version is still this
DELETE FROM shared WHERE name = ? AND key = ? AND version = ?;

-- tally: how many jobs there are, per queue and state
SELECT queue, state, n FROM tally WHERE n > 0 ORDER BY queue, state;
