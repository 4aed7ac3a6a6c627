-- Why a job is cancelled or held: `cause`.
-- Older workers keep using the functions and types of the first schema, which leave the new column empty.

ALTER TABLE {schema}.live ADD COLUMN cause text COLLATE "C";
ALTER TABLE {schema}.ended ADD COLUMN cause text COLLATE "C";

-- Finds the jobs that were cancelled because of their parents when a parent is retried.
CREATE INDEX ended_waiting ON {schema}.ended USING gin (waiting_for) WHERE waiting_for IS NOT NULL;

-- All columns of a job, in the order that the program expects.
CREATE TYPE {schema}.whole_3 AS (
    id text, created_at bigint, number bigint, version integer,
    state text, queue text, priority integer, run_at bigint, sort_key bigint, updated_at bigint,
    attempts integer, failures integer, losses integer,
    attempt_id text, worker text, claimed_at bigint, lease_until bigint, slot integer, pid bigint,
    lease_started_at bigint, cancel_requested text, waiting_for text, history text, history_dropped integer,
    last_error text, exit_code integer, output_tail text, started_at bigint, finished_at bigint,
    cause text, spec text
);

-- A job as a client sends it to be added or changed.
CREATE TYPE {schema}.sent_3 AS (
    place integer, id text, version integer, due smallint,
    state text, queue text, priority integer, run_at bigint, sort_key bigint, updated_at bigint,
    attempts integer, failures integer, losses integer,
    attempt_id text, worker text, claimed_at bigint, lease_until bigint, slot integer, pid bigint,
    lease_started_at bigint, cancel_requested text, waiting_for jsonb, history text, history_dropped integer,
    last_error text, exit_code integer, output_tail text, started_at bigint, finished_at bigint, cause text,
    created_at bigint, unique_key text, batch text, tags text[], spec text
);

-- Insert the jobs whose ids are new. Returns the numbers in the order of the batch, NULL for a job that was refused: its
-- id exists, or its unique key is in use. Rows are inserted in the order of ids and of keys, so that two batches do not
-- deadlock.
CREATE FUNCTION {schema}.add_3(jobs json) RETURNS bigint[] LANGUAGE plpgsql {safely} AS $body$
#variable_conflict use_column
DECLARE
    numbers bigint[];
    refused bigint[];
    waits   boolean;
BEGIN
    WITH numbered AS MATERIALIZED (
        SELECT nextval(pg_get_serial_sequence('{schema}.body', 'number')) AS number, *
        FROM (SELECT * FROM json_populate_recordset(NULL::{schema}.sent_3, jobs) ORDER BY place) AS sent
    ), bodies AS (
        INSERT INTO {schema}.body (number, id, created_at, unique_key, batch, tags, spec)
        SELECT number, id, created_at, unique_key, batch, tags, spec FROM numbered ORDER BY id
        ON CONFLICT (id) DO NOTHING RETURNING number
    ), lively AS (
        INSERT INTO {schema}.live (number, unique_key, version, due, {changing})
        SELECT number, unique_key, version, due, {changing} FROM numbered JOIN bodies USING (number)
        WHERE finished_at IS NULL ORDER BY unique_key NULLS FIRST, place
        ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO NOTHING RETURNING number, due
    ), past AS (
        INSERT INTO {schema}.ended (number, unique_key, version, due, {changing})
        SELECT number, unique_key, version, due, {changing} FROM numbered JOIN bodies USING (number)
        WHERE finished_at IS NOT NULL RETURNING number
    ), stored AS MATERIALIZED (SELECT number FROM lively UNION ALL SELECT number FROM past)
    SELECT
        (SELECT array_agg(stored.number ORDER BY place) FROM numbered LEFT JOIN stored USING (number)),
        ARRAY(SELECT number FROM bodies WHERE number NOT IN (SELECT number FROM stored)),
        EXISTS (SELECT FROM lively WHERE due = 1)
    INTO numbers, refused, waits;
    IF refused <> '{}' THEN
        DELETE FROM {schema}.body WHERE number = ANY (refused);
    END IF;
    IF waits THEN
        PERFORM {schema}.ring('work');
    END IF;
    RETURN numbers;
END
$body$;

-- Claim the first due jobs, in order; the rules are those of `Store.claim` and `lifecycle.claim`.
-- Rows that another claim has locked are skipped; no more rows are locked than are claimed.
CREATE FUNCTION {schema}.claim_3(claimer text, named text[], wanted integer, lease bigint, tokens text[])
RETURNS SETOF {schema}.whole_3 LANGUAGE plpgsql {by_index} AS $body$
#variable_conflict use_column
DECLARE
    moment bigint := {schema}.now();
BEGIN
    IF EXISTS (SELECT FROM {schema}.live WHERE due = 0 AND run_at <= moment) THEN
        UPDATE {schema}.live SET due = 1 WHERE number = ANY (ARRAY(
            SELECT number FROM {schema}.live WHERE due = 0 AND run_at <= moment
            ORDER BY run_at LIMIT 1000 FOR UPDATE SKIP LOCKED));
    END IF;
    -- Of a limited queue one claim at a time: the next counts what this one took.
    PERFORM FROM {schema}.shared
        WHERE name = 'queues' AND value ->> 'limit' IS NOT NULL AND (named = '{}' OR key = ANY (named))
            AND EXISTS (SELECT FROM {schema}.live WHERE due = 1 AND queue = key)
        ORDER BY key FOR UPDATE;
    RETURN QUERY
    WITH RECURSIVE line (queue) AS (
        (SELECT queue FROM {schema}.live WHERE due = 1 AND named = '{}' ORDER BY queue LIMIT 1)
        UNION ALL
        SELECT (SELECT queue FROM {schema}.live WHERE due = 1 AND queue > line.queue ORDER BY queue LIMIT 1)
        FROM line WHERE line.queue IS NOT NULL
    ), meant AS (
        SELECT queue FROM line WHERE queue IS NOT NULL UNION SELECT unnest(named)
    ), open AS (
        -- The rule of `QueueSettings.capacity`. Without a limit more rows are read, because others may have locked the first.
        SELECT meant.queue, CASE
            WHEN (value ->> 'paused')::boolean THEN 0
            WHEN value ->> 'limit' IS NULL THEN wanted + 64
            ELSE greatest(0, least(wanted, (value ->> 'limit')::integer - (
                SELECT count(*)::integer FROM {schema}.live AS running
                WHERE state = 'processing' AND running.queue = meant.queue)))
            END AS room
        FROM meant LEFT JOIN {schema}.shared ON name = 'queues' AND key = meant.queue
    ), first AS MATERIALIZED (
        SELECT live.number, head.sort_key
        FROM open CROSS JOIN LATERAL (
            SELECT number, sort_key FROM {schema}.live AS ready WHERE due = 1 AND ready.queue = open.queue
            ORDER BY sort_key, number LIMIT room
        ) AS head JOIN {schema}.live 
            -- Check the conditions again by which the head was chosen: the row may have changed before it was locked.
            ON live.number = head.number AND live.due = 1 AND live.queue = open.queue
                AND live.sort_key = head.sort_key
        ORDER BY head.sort_key, head.number LIMIT wanted FOR UPDATE OF live SKIP LOCKED
    ), placed AS (
        SELECT number, row_number() OVER (ORDER BY sort_key, number) AS place FROM first
    ), taken AS (
        UPDATE {schema}.live SET state = 'processing', due = NULL, version = version + 1, updated_at = moment,
            attempts = attempts + 1, attempt_id = tokens[place], worker = claimer, claimed_at = moment,
            lease_until = moment + lease, slot = NULL, pid = NULL, lease_started_at = NULL
        FROM placed WHERE live.number = placed.number RETURNING live.*
    )
    SELECT {columns_3} FROM taken AS job JOIN {schema}.body USING (number) ORDER BY sort_key, number;
END
$body$;

-- Renew the leases of those attempts that still have theirs.
CREATE FUNCTION {schema}.renew_3(holder text, ids text[], attempts text[], lease bigint)
RETURNS SETOF {schema}.whole_3 LANGUAGE plpgsql {by_index} AS $body$
#variable_conflict use_column
DECLARE
    moment bigint := {schema}.now();
BEGIN
    RETURN QUERY
    WITH held AS MATERIALIZED (
        SELECT live.number FROM unnest(ids, attempts) AS asked (id, attempt)
        JOIN {schema}.body ON body.id = asked.id JOIN {schema}.live ON live.number = body.number
        WHERE state = 'processing' AND attempt_id = asked.attempt AND worker = holder
        ORDER BY live.number FOR UPDATE OF live
    ), renewed AS (
        UPDATE {schema}.live SET version = version + 1, updated_at = moment, lease_until = moment + lease
        FROM held WHERE live.number = held.number RETURNING live.*
    )
    SELECT {columns_3} FROM renewed AS job JOIN {schema}.body USING (number);
END
$body$;

-- Compare-and-swap for a batch: `accepted` or `taken` by `place`; a place that is missing in the answer is stale. A job
-- moves from `live` to `ended` when it ends, and back when it is retried. Rows are locked in the order of their numbers,
-- so that saves and renewals do not deadlock.
CREATE FUNCTION {schema}.save_3(jobs json)
RETURNS TABLE (place integer, verdict text) LANGUAGE plpgsql {by_index} AS $body$
#variable_conflict use_column
DECLARE
    saved   integer[];
    waits   boolean;
    ends    boolean;
    answers integer[];
    refused integer[];
BEGIN
    WITH current AS MATERIALIZED (
        SELECT live.number, live.unique_key AS fixed_key, sent.*
        FROM json_populate_recordset(NULL::{schema}.sent_3, jobs) AS sent
        JOIN {schema}.body ON body.id = sent.id JOIN {schema}.live ON live.number = body.number
        WHERE live.version = sent.version ORDER BY live.number FOR UPDATE OF live
    ), kept AS (
        UPDATE {schema}.live SET version = current.version + 1, due = current.due, {changing_set}
        FROM current WHERE live.number = current.number AND current.finished_at IS NULL
    ), left_behind AS (
        DELETE FROM {schema}.live USING current
        WHERE live.number = current.number AND current.finished_at IS NOT NULL
    ), gone AS (
        INSERT INTO {schema}.ended (number, unique_key, version, due, {changing})
        SELECT number, fixed_key, version + 1, due, {changing} FROM current WHERE finished_at IS NOT NULL
    )
    SELECT coalesce(array_agg(place), '{}'), bool_or(due = 1 OR (state = 'processing' AND cancel_requested IS NOT NULL)),
        bool_or(finished_at IS NOT NULL)
    INTO saved, waits, ends FROM current;
    IF cardinality(saved) < json_array_length(jobs) THEN
        SELECT accepted, taken, waits OR accepted <> '{}' INTO answers, refused, waits
        FROM {schema}.save_ended_3(jobs);
        saved := saved || answers;
    END IF;
    IF waits THEN
        PERFORM {schema}.ring('work');
    END IF;
    IF ends THEN
        PERFORM {schema}.ring('end');
    END IF;
    RETURN QUERY SELECT unnest(saved), 'accepted' UNION ALL SELECT unnest(refused), 'taken';
END
$body$;

-- The second half of `save`: jobs that had ended, and are retried or saved again.
CREATE FUNCTION {schema}.save_ended_3(jobs json, OUT accepted integer[], OUT taken integer[])
LANGUAGE plpgsql {by_index} AS $body$
#variable_conflict use_column
BEGIN
    WITH current AS MATERIALIZED (
        SELECT ended.number, ended.unique_key AS fixed_key, sent.*
        FROM json_populate_recordset(NULL::{schema}.sent_3, jobs) AS sent
        JOIN {schema}.body ON body.id = sent.id JOIN {schema}.ended ON ended.number = body.number
        WHERE ended.version = sent.version ORDER BY ended.number FOR UPDATE OF ended
    ), kept AS (
        UPDATE {schema}.ended SET version = current.version + 1, due = current.due, {changing_set}
        FROM current WHERE ended.number = current.number AND current.finished_at IS NOT NULL
        RETURNING ended.number
    ), risen AS (
        INSERT INTO {schema}.live (number, unique_key, version, due, {changing})
        SELECT number, fixed_key, version + 1, due, {changing} FROM current WHERE finished_at IS NULL
        ORDER BY fixed_key NULLS FIRST, place
        ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO NOTHING RETURNING number
    ), left_behind AS (
        DELETE FROM {schema}.ended USING risen WHERE ended.number = risen.number
    ), saved AS MATERIALIZED (SELECT number FROM kept UNION ALL SELECT number FROM risen)
    SELECT coalesce(array_agg(place) FILTER (WHERE saved.number IS NOT NULL), '{}'),
        coalesce(array_agg(place) FILTER (WHERE saved.number IS NULL), '{}')
    INTO accepted, taken FROM current LEFT JOIN saved USING (number);
END
$body$;

-- A job that is enqueued with `hold` is held by a person. An id that is a plain number is refused: it would be mistaken
-- for the number of another job.
DO $body$
DECLARE
    source text := pg_get_functiondef('{schema}.enqueue'::regproc);
    change text[];
BEGIN
    FOREACH change SLICE 1 IN ARRAY ARRAY[
        ['history_dropped, output_tail)', 'history_dropped, output_tail, cause)'],
        ['waiting, 0, ''''', 'waiting, 0, '''', CASE WHEN hold THEN ''person'' END'],
        ['refuse(name !~', 'refuse(name ~ ''^(0|[1-9][0-9]{0,16})$'' OR name !~']
    ] LOOP
        IF position(change[1] IN source) = 0 THEN
            RAISE EXCEPTION 'the function enqueue is not the one of the second schema';
        END IF;
        source := replace(source, change[1], change[2]);
    END LOOP;
    EXECUTE source;
END
$body$;

CREATE OR REPLACE VIEW {schema}.job AS
    SELECT number, id, state, queue, priority, spec::json ->> 'command' AS command, attempts, exit_code, last_error,
        output_tail, {schema}.moment(created_at) AS created_at, {schema}.moment(run_at) AS run_at,
        {schema}.moment(started_at) AS started_at, {schema}.moment(finished_at) AS finished_at,
        {schema}.moment(updated_at) AS updated_at, worker, batch, tags, job.unique_key, spec::json AS spec, cause
    FROM (SELECT * FROM {schema}.live UNION ALL SELECT * FROM {schema}.ended) AS job JOIN {schema}.body USING (number);
