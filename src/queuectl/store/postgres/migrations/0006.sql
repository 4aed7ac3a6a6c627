-- Entries of the shared tables that need work at a time, jobs that are added with a change of an entry, and imported jobs.

ALTER TABLE {schema}.shared ADD COLUMN due bigint;
CREATE INDEX shared_due ON {schema}.shared (due) WHERE due IS NOT NULL;

-- Change each entry that has the given version, and add its jobs. Returns for each, in the order of the batch, whether it
-- was changed. The entries are locked in the order of their names, so that two batches do not deadlock.
CREATE FUNCTION {schema}.swap(swaps json) RETURNS boolean[] LANGUAGE plpgsql {safely} AS $body$
#variable_conflict use_variable
DECLARE
    each record;
    made boolean[] := '{}';
BEGIN
    FOR each IN
        SELECT * FROM json_to_recordset(swaps) AS sent (
            place integer, "table" text, key text, value jsonb, version integer, due bigint, jobs json
        ) ORDER BY "table" COLLATE "C", key COLLATE "C"
    LOOP
        IF each.value IS NULL THEN
            DELETE FROM {schema}.shared AS entry
            WHERE entry.name = each."table" AND entry.key = each.key AND entry.version = each.version;
        ELSIF each.version = 0 THEN
            INSERT INTO {schema}.shared (name, key, value, version, due)
            VALUES (each."table", each.key, each.value, 1, each.due) ON CONFLICT DO NOTHING;
        ELSE
            UPDATE {schema}.shared AS entry
            SET value = each.value, version = entry.version + 1, due = each.due
            WHERE entry.name = each."table" AND entry.key = each.key AND entry.version = each.version;
        END IF;
        made[each.place] := FOUND;
        IF FOUND AND each.jobs IS NOT NULL THEN
            PERFORM {schema}.add_3(each.jobs);
        END IF;
    END LOOP;
    IF true = ANY (made) THEN
        PERFORM {schema}.ring('work');
    END IF;
    RETURN made;
END
$body$;

-- Insert jobs whose ids are new, as add_3 does. A job that brings a number which is higher than all assigned ones keeps it.
-- Other inserts wait meanwhile: otherwise one could get such a number between the look at the sequence and its change.
-- Jobs whose numbers follow each other are added with one call: a call for each job costs ten times the time of the server.
CREATE FUNCTION {schema}.import(jobs json) RETURNS bigint[] LANGUAGE plpgsql {safely} AS $body$
DECLARE
    each     json;
    sequence regclass := pg_get_serial_sequence('{schema}.body', 'number')::regclass;
    last     bigint;
    run      json[] := '{}';
    found    bigint[] := '{}';
BEGIN
    LOCK TABLE {schema}.body IN SHARE ROW EXCLUSIVE MODE;
    last := coalesce(pg_sequence_last_value(sequence), 0);
    FOR each IN SELECT value FROM json_array_elements(jobs) LOOP
        IF (each ->> 'number')::bigint > last + 1 THEN
            IF cardinality(run) > 0 THEN
                found := found || {schema}.add_3(array_to_json(run));
            END IF;
            run := '{}';
            last := (each ->> 'number')::bigint - 1;
            PERFORM setval(sequence, last);
        END IF;
        run := run || each;
        last := last + 1;
    END LOOP;
    IF cardinality(run) > 0 THEN
        found := found || {schema}.add_3(array_to_json(run));
    END IF;
    RETURN found;
END
$body$;

-- Stores output also of jobs that are being imported: held, with the cause `moved`.
CREATE OR REPLACE FUNCTION {schema}.write_output(
    jobs text[], attempts text[], ns integer[], streams smallint[], ats bigint[], starts bigint[], datas bytea[],
    trim_jobs text[], trim_attempts text[], afters integer[], befores integer[])
RETURNS SETOF text LANGUAGE plpgsql {by_index} AS $body$
#variable_conflict use_column
DECLARE
    holders text[];
    numbers bigint[];
BEGIN
    -- The numbers first, so that the jobs are found by the primary key, however many jobs are held.
    SELECT array_agg(held.attempt), array_agg(held.number) INTO holders, numbers FROM (
        SELECT live.number, asked.attempt
        FROM (
            SELECT DISTINCT attempt, (SELECT number FROM {schema}.body WHERE id = job) AS number
            FROM unnest(jobs || trim_jobs, attempts || trim_attempts) AS each (job, attempt)
            ORDER BY number
        ) AS asked CROSS JOIN LATERAL (
            SELECT * FROM {schema}.live WHERE live.number = asked.number FOR KEY SHARE
        ) AS live
        WHERE live.state = 'processing' AND live.attempt_id = asked.attempt OR live.state = 'held' AND live.cause = 'moved'
    ) AS held;
    INSERT INTO {schema}.output (attempt_id, n, job, stream, at, start, data)
        SELECT attempt, n, number, stream, at, start, data
        FROM unnest(attempts, ns, streams, ats, starts, datas) AS chunk (attempt, n, stream, at, start, data)
        JOIN unnest(holders, numbers) AS held (attempt, number) USING (attempt)
        ON CONFLICT DO NOTHING;
    IF trim_jobs <> '{}' THEN
        DELETE FROM {schema}.output USING unnest(trim_attempts, afters, befores) AS trim (attempt, after, before)
            WHERE attempt_id = attempt AND attempt = ANY (holders) AND n > after AND n < before;
    END IF;
    RETURN QUERY SELECT DISTINCT unnest(attempts || trim_attempts) EXCEPT SELECT unnest(holders);
END
$body$;
