-- worker_by_id: what is known of a worker and asked of it
SELECT worker, asked FROM {schema}.worker WHERE id = %s;

-- keep_worker: enter a worker or renew its entry; what was asked since we looked stays asked
INSERT INTO {schema}.worker AS known (id, started_at, worker, asked)
VALUES (%(id)s, %(started_at)s, %(worker)s, NULL)
ON CONFLICT (id) DO UPDATE SET started_at = excluded.started_at, worker = excluded.worker,
    asked = CASE WHEN known.asked IS DISTINCT FROM %(seen)s THEN known.asked ELSE %(left)s END
RETURNING asked;

-- fold: add up the ledger of ended jobs, where it has grown
SELECT {schema}.fold();

-- ask: the latest wish counts
UPDATE {schema}.worker SET asked = %s WHERE id = %s;

-- ring: tell who waits
SELECT {schema}.ring(%s);

-- rings: how often the bells have rung
SELECT name, rings FROM {schema}.bell;

-- workers: all, in order of their start
SELECT id, worker FROM {schema}.worker ORDER BY started_at, id;

-- forget: a worker that has left
DELETE FROM {schema}.worker WHERE id = %s;

-- entries: of one shared table
SELECT key, value::text, version FROM {schema}.shared WHERE name = %s;

-- insert_entry: unless there is one
INSERT INTO {schema}.shared (name, key, value, version) VALUES (%s, %s, %s::jsonb, 1) ON CONFLICT DO NOTHING;

-- update_entry: if its version is still this
UPDATE {schema}.shared SET value = %s::jsonb, version = version + 1 WHERE name = %s AND key = %s AND version = %s;

-- delete_entry: if its version is still this
DELETE FROM {schema}.shared WHERE name = %s AND key = %s AND version = %s;

