-- A job that was damaged by hand or by a bad disk stops neither a claim nor a scan of all jobs.

-- Claim the first due jobs, in order; the rules are those of `Store.claim` and `lifecycle.claim`.
-- Rows that another claim has locked are skipped; no more rows are locked than are claimed.
CREATE OR REPLACE FUNCTION {schema}.claim_3(claimer text, named text[], wanted integer, lease bigint, tokens text[])
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
        UPDATE {schema}.live SET state = 'processing', due = NULL, version = version % 2147483647 + 1,
            updated_at = moment, attempts = least(attempts, 2147483646) + 1, attempt_id = tokens[place], worker = claimer, claimed_at = moment,
            lease_until = moment + lease, slot = NULL, pid = NULL, lease_started_at = NULL
        FROM placed WHERE live.number = placed.number RETURNING live.*
    )
    SELECT {columns_3} FROM taken AS job LEFT JOIN {schema}.body USING (number) ORDER BY sort_key, number;
END
$body$;

-- The specification as JSON; NULL if it is not valid JSON.
CREATE FUNCTION {schema}.as_json(spec text) RETURNS json LANGUAGE plpgsql STABLE {safely} AS $body$
BEGIN
    RETURN spec::json;
EXCEPTION WHEN invalid_text_representation THEN
    RETURN NULL;
END
$body$;

CREATE OR REPLACE VIEW {schema}.job AS
    SELECT number, id, state, queue, priority, {schema}.as_json(spec) ->> 'command' AS command, attempts, exit_code,
        last_error, output_tail, {schema}.moment(created_at) AS created_at, {schema}.moment(run_at) AS run_at,
        {schema}.moment(started_at) AS started_at, {schema}.moment(finished_at) AS finished_at,
        {schema}.moment(updated_at) AS updated_at, worker, batch, tags, job.unique_key, {schema}.as_json(spec) AS spec, cause
    FROM (SELECT * FROM {schema}.live UNION ALL SELECT * FROM {schema}.ended) AS job JOIN {schema}.body USING (number);
