-- Events: one row for each change that a program tells, written in the transaction of the change. Older programs call the
-- functions of the earlier schemas, which tell nothing.

-- A reader gets the rows in the order of (xid, seq), and only those below every transaction that is still open. So no
-- transaction can add a row before one that was read. Usually `xid` is the transaction that wrote the row. See `event_place`.
-- at: when the row was written, in microseconds. number: of the job; NULL if it is in the line. line: the event as JSON.
CREATE TABLE {schema}.event (
    xid    xid8      NOT NULL,
    seq    bigserial NOT NULL,
    at     bigint    NOT NULL,
    number bigint,
    line   text      NOT NULL,
    PRIMARY KEY (xid, seq)
) WITH (autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);

-- The last event that was deleted, and with it all before. One row.
CREATE TABLE {schema}.event_trimmed (
    xid xid8   NOT NULL,
    seq bigint NOT NULL
);

INSERT INTO {schema}.event_trimmed VALUES ('0', 0);

-- The `xid` of events that are written now: this transaction, or the last one that has ended, if that is later. With its
-- own number alone, an old transaction that changes a job after a newer one would write its event before the event of the
-- newer one. Volatile, so that it sees every change on which the caller's statement is based.
-- Shown by test_the_events_of_a_job_are_in_order_although_an_older_transaction_claims_it in
-- tests/contract/test_postgres_events.py.
CREATE FUNCTION {schema}.event_place() RETURNS xid8 LANGUAGE plpgsql VOLATILE AS $body$
BEGIN
    RETURN greatest(pg_current_xact_id(), (pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1)::text::xid8);
END
$body$;

-- Write the events of jobs that were just stored or deleted: an array, in the order of the numbers, with null for a job
-- without an event. A job without a number was refused, and has no event either.
CREATE FUNCTION {schema}.tell(numbers bigint[], events json) RETURNS void LANGUAGE plpgsql {safely} AS $body$
#variable_conflict use_column
DECLARE
    place  xid8 := {schema}.event_place();
    moment bigint := {schema}.now();
BEGIN
    INSERT INTO {schema}.event (xid, at, number, line)
        SELECT place, moment, number, line::text
        FROM ROWS FROM (unnest(numbers), json_array_elements(events)) AS each (number, line)
        WHERE number IS NOT NULL AND line::text <> 'null';
END
$body$;

-- Insert jobs as add_3 does, with their events.
CREATE FUNCTION {schema}.add_4(jobs json, events json) RETURNS bigint[] LANGUAGE plpgsql {safely} AS $body$
DECLARE
    numbers bigint[] := {schema}.add_3(jobs);
BEGIN
    PERFORM {schema}.tell(numbers, events);
    RETURN numbers;
END
$body$;

-- Insert jobs as import does, with their events.
CREATE FUNCTION {schema}.import_4(jobs json, events json) RETURNS bigint[] LANGUAGE plpgsql {safely} AS $body$
DECLARE
    numbers bigint[] := {schema}.import(jobs);
BEGIN
    PERFORM {schema}.tell(numbers, events);
    RETURN numbers;
END
$body$;

-- The jobs of an entry have events, as in add_4. Programs of the schema before send none.
CREATE OR REPLACE FUNCTION {schema}.swap(swaps json) RETURNS boolean[] LANGUAGE plpgsql {safely} AS $body$
#variable_conflict use_variable
DECLARE
    each record;
    made boolean[] := '{}';
BEGIN
    FOR each IN
        SELECT * FROM json_to_recordset(swaps) AS sent (
            place integer, "table" text, key text, value jsonb, version integer, due bigint, jobs json, events json
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
            PERFORM {schema}.add_4(each.jobs, each.events);
        END IF;
    END LOOP;
    IF true = ANY (made) THEN
        PERFORM {schema}.ring('work');
    END IF;
    RETURN made;
END
$body$;

-- Claim as claim_3 does, and write the event of each claimed job that has a body.
CREATE FUNCTION {schema}.claim_4(claimer text, named text[], wanted integer, lease bigint, tokens text[])
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
        -- An entry that makes no sense may have been a pause or a limit.
        SELECT meant.queue, CASE
            WHEN value IS NULL THEN wanted + 64
            WHEN jsonb_typeof(value) <> 'object' OR coalesce(value -> 'paused', 'false') NOT IN ('false', 'null')
                OR value ->> 'limit' !~ '^-?[0-9]{1,9}$' THEN 0
            WHEN value ->> 'limit' IS NULL THEN wanted + 64
            ELSE greatest(0, least(wanted, (value ->> 'limit')::integer - (
                SELECT count(*)::integer FROM {schema}.live AS running
                WHERE state = 'processing' AND running.queue = meant.queue)))
            END AS room
        FROM meant LEFT JOIN {schema}.shared ON name = 'queues' AND key = meant.queue
    ), first AS MATERIALIZED (
        SELECT live.number, head.sort_key, live.state AS before
        FROM open CROSS JOIN LATERAL (
            SELECT number, sort_key FROM {schema}.live AS ready WHERE due = 1 AND ready.queue = open.queue
            ORDER BY sort_key, number LIMIT room
        ) AS head JOIN {schema}.live
            -- Check the conditions again by which the head was chosen: the row may have changed before it was locked.
            ON live.number = head.number AND live.due = 1 AND live.queue = open.queue
                AND live.sort_key = head.sort_key
        ORDER BY head.sort_key, head.number LIMIT wanted FOR UPDATE OF live SKIP LOCKED
    ), placed AS (
        SELECT number, before, row_number() OVER (ORDER BY sort_key, number) AS place FROM first
    ), taken AS (
        UPDATE {schema}.live SET state = 'processing', due = NULL, version = version % 2147483647 + 1,
            updated_at = moment, attempts = least(attempts, 2147483646) + 1, attempt_id = tokens[place], worker = claimer,
            claimed_at = moment, lease_until = moment + lease, slot = NULL, pid = NULL, lease_started_at = NULL
        FROM placed WHERE live.number = placed.number RETURNING live.*, before
    ), told AS (
        INSERT INTO {schema}.event (xid, at, number, line)
        SELECT
            (SELECT {schema}.event_place() FROM (SELECT count(*) FROM taken) AS after_all_of_them), moment, number,
            concat('{"event":"job.started","job":', to_json(id), ',"queue":', to_json(queue),
                ',"batch":' || to_json(batch)::text, ',"state":"processing","before":"', before, '","attempt":', attempts,
                ',"attempt_id":', to_json(attempt_id), ',"worker":', to_json(worker), '}')
        FROM taken JOIN {schema}.body USING (number) ORDER BY sort_key, number
    )
    SELECT {columns_3} FROM taken AS job LEFT JOIN {schema}.body USING (number) ORDER BY sort_key, number;
END
$body$;

-- Save as save_3 does, and write the events of the accepted jobs: an array, in the order of the places.
CREATE FUNCTION {schema}.save_4(jobs json, events json)
RETURNS TABLE (place integer, verdict text) LANGUAGE plpgsql {by_index} AS $body$
#variable_conflict use_column
DECLARE
    saved   integer[];
    waits   boolean;
    ends    boolean;
    all_of  boolean;
    answers integer[];
    refused integer[];
    written xid8;
    moment  bigint;
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
    all_of := cardinality(saved) = json_array_length(jobs);
    IF NOT all_of THEN
        SELECT accepted, taken, waits OR accepted <> '{}' INTO answers, refused, waits
        FROM {schema}.save_ended_3(jobs);
        saved := saved || answers;
    END IF;
    written := {schema}.event_place();
    moment := {schema}.now();
    INSERT INTO {schema}.event (xid, at, line)
        SELECT written, moment, line::text FROM json_array_elements(events) WITH ORDINALITY AS each (line, nth)
        WHERE line::text <> 'null' AND (all_of OR nth - 1 = ANY (saved));
    IF waits THEN
        PERFORM {schema}.ring('work');
    END IF;
    IF ends THEN
        PERFORM {schema}.ring('end');
    END IF;
    RETURN QUERY SELECT unnest(saved), 'accepted' UNION ALL SELECT unnest(refused), 'taken';
END
$body$;

-- The function `enqueue` tells the new job, if the setting `events` is `all`. The actor is the role that has logged in,
-- because `current_user` is the owner of the function.
DO $body$
DECLARE
    source text := pg_get_functiondef('{schema}.enqueue'::regproc);
    before CONSTANT text := 'PERFORM pg_notify(';
BEGIN
    IF position(before IN source) = 0 THEN
        RAISE EXCEPTION 'the function enqueue is not the one of the schema before';
    END IF;
    EXECUTE replace(source, before, $new$IF coalesce({schema}.setting('events'), 'all') = 'all' THEN
        PERFORM {schema}.tell(ARRAY[taken], jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
            'event', CASE WHEN hold THEN 'job.held' WHEN waiting IS NOT NULL THEN 'job.blocked' ELSE 'job.enqueued' END,
            'state', CASE WHEN hold THEN 'held' WHEN waiting IS NOT NULL THEN 'blocked' ELSE 'pending' END,
            'job', name, 'queue', queue, 'batch', batch, 'cause', CASE WHEN hold THEN 'person' END,
            'by', session_user, 'via', 'sql')))::json);
    END IF;
    $new$ || before);
END
$body$;
