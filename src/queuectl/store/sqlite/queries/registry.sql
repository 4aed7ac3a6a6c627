-- worker_by_id: the entry of a worker and its pending instruction
SELECT worker, asked FROM worker WHERE id = ?;

-- keep_worker: insert or update the entry of a worker
INSERT INTO worker (id, started_at, worker, asked) VALUES (?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET started_at = excluded.started_at, worker = excluded.worker, asked = excluded.asked;

-- ask: set the pending instruction; the latest one counts
UPDATE worker SET asked = ? WHERE id = ?;

-- workers: all, in order of their start
SELECT id, worker FROM worker ORDER BY started_at, id;

-- forget: a worker that has left
DELETE FROM worker WHERE id = ?;

-- entries: of one shared table
SELECT key, value, version FROM shared WHERE name = ?;

-- entry: of one shared table
SELECT key, value, version FROM shared WHERE name = ? AND key = ?;

-- upcoming: the entries that need work, soonest first
SELECT name, key, value, version, due FROM shared WHERE due IS NOT NULL ORDER BY due LIMIT ?;

-- insert_entry: unless it exists
INSERT INTO shared (name, key, value, version, due) VALUES (:table, :key, :value, 1, :due) ON CONFLICT DO NOTHING;

-- update_entry: if its version is still the given one
UPDATE shared SET value = :value, version = version + 1, due = :due WHERE name = :table AND key = :key AND version = :version;

-- delete_entry: if its version is still the given one
DELETE FROM shared WHERE name = :table AND key = :key AND version = :version;

-- tally: how many jobs there are, per queue and state
SELECT queue, state, n FROM tally WHERE n > 0 ORDER BY queue, state;
