-- worker_by_id: the entry of a worker and its pending instruction
SELECT worker, asked FROM {schema}.worker WHERE id = %s;

-- keep_worker: insert or update the entry of a worker; an instruction that came since the last read stays pending
INSERT INTO {schema}.worker AS known (id, started_at, worker, asked)
VALUES (%(id)s, %(started_at)s, %(worker)s, NULL)
ON CONFLICT (id) DO UPDATE SET started_at = excluded.started_at, worker = excluded.worker,
    asked = CASE WHEN known.asked IS DISTINCT FROM %(seen)s THEN known.asked ELSE %(left)s END
RETURNING asked;

-- fold: replace the rows that count ended jobs by their sums, if there are many
SELECT {schema}.fold();

-- ask: set the pending instruction; the latest one counts
UPDATE {schema}.worker SET asked = %s WHERE id = %s;

-- ring: notify waiting processes
SELECT {schema}.ring(%s);

-- rings: how many notifications there were
SELECT name, rings FROM {schema}.bell;

-- workers: all, in order of their start
SELECT id, worker FROM {schema}.worker ORDER BY started_at, id;

-- forget: a worker that has left
DELETE FROM {schema}.worker WHERE id = %s;

-- entries: of one shared table
SELECT key, value::text, version FROM {schema}.shared WHERE name = %s;

-- some_entries: of one shared table
SELECT key, value::text, version FROM {schema}.shared WHERE name = %s AND key = ANY (%s::text[]);

-- upcoming: the entries that need work, soonest first
SELECT name, key, value::text, version, due FROM {schema}.shared WHERE due IS NOT NULL ORDER BY due LIMIT %s;

-- swap: change the entries that have the given versions, and add their jobs
SELECT {schema}.swap(%s::json);
