-- The queue for programs that use SQL: the function `enqueue` for their own transactions, and the view `job`.

-- A shared setting as text, or NULL if it is not set: then the program's default applies.
CREATE FUNCTION {schema}.setting(wanted text) RETURNS text LANGUAGE sql STABLE {safely} AS $body$
    SELECT value ->> 'value' FROM {schema}.shared WHERE name = 'settings' AND key = wanted
$body$;

-- A duration in the form that the program stores in a job; NULL stays NULL.
CREATE FUNCTION {schema}.span(duration interval) RETURNS text LANGUAGE sql IMMUTABLE {safely} AS $body$
    SELECT 'PT' || trim_scale(extract(epoch FROM duration)::numeric) || 'S'
$body$;

-- A time from a column of microseconds.
CREATE FUNCTION {schema}.moment(micros bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE {safely} AS $body$
    SELECT timestamptz 'epoch' + micros * interval '1 microsecond'
$body$;

CREATE FUNCTION {schema}.refuse(broken boolean, message text, hint text DEFAULT '') RETURNS void
LANGUAGE plpgsql {safely} AS $body$
BEGIN
    IF broken THEN
        RAISE EXCEPTION '%', message USING ERRCODE = 'invalid_parameter_value', HINT = hint;
    END IF;
END
$body$;

-- An existing job: its id, if it was enqueued with the same arguments.
CREATE FUNCTION {schema}.known(name text, digest text) RETURNS text LANGUAGE plpgsql {safely} AS $body$
BEGIN
    IF NOT EXISTS (SELECT FROM {schema}.body WHERE id = name AND spec::json ->> 'content' = digest) THEN
        RAISE EXCEPTION 'id % exists with other content', name USING ERRCODE = 'unique_violation';
    END IF;
    RETURN name;
END
$body$;

-- Enqueue a shell command in the caller's transaction: the job exists if and only if that commits. Returns the job's id.
-- The same id with the same arguments is the same job. With other arguments, or if another job that has not ended has the
-- unique key, it raises unique_violation. A role that may call this function can run any command as the workers' user.
CREATE FUNCTION {schema}.enqueue(
    command     text,
    id          text        DEFAULT NULL,
    queue       text        DEFAULT 'default',
    priority    integer     DEFAULT 0,
    run_at      timestamptz DEFAULT NULL,
    delay       interval    DEFAULT NULL,
    max_retries integer     DEFAULT NULL,
    timeout     interval    DEFAULT NULL,
    cwd         text        DEFAULT NULL,
    env         jsonb       DEFAULT NULL,
    unique_key  text        DEFAULT NULL,
    after       text[]      DEFAULT NULL,
    batch       text        DEFAULT NULL,
    tags        text[]      DEFAULT NULL,
    meta        jsonb       DEFAULT NULL,
    hold        boolean     DEFAULT false)
RETURNS text LANGUAGE plpgsql SECURITY DEFINER {safely} AS $body$
#variable_conflict use_variable
DECLARE
    -- As `str.isprintable` of the program has it; the comma separates names.
    unprintable CONSTANT text := E'[[:cntrl:],\u0080-\u00a0\u00ad\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]';
    longest CONSTANT interval := interval '36500 days';
    moment  bigint := {schema}.now();
    boost   bigint := 1000 * extract(epoch FROM coalesce({schema}.setting('priority_boost'), '1h')::interval);
    start   bigint := coalesce((1000000 * extract(epoch FROM run_at))::bigint,
                               moment + (1000000 * extract(epoch FROM delay))::bigint, moment);
    name    text := coalesce(id, lpad(to_hex(moment / 1000), 11, '0')
                    || left(replace(gen_random_uuid()::text, '-', ''), 12) || right(gen_random_uuid()::text, 3));
    -- Times as numbers: as text they depend on the settings of each session.
    digest  text := md5(jsonb_build_array(command, queue, priority, extract(epoch FROM run_at), extract(epoch FROM delay),
                    max_retries, extract(epoch FROM timeout), cwd, env, unique_key, after, batch, tags, meta, hold)::text);
    parents jsonb;
    waiting jsonb;
    lacking text;
    taken   bigint;
    spec    jsonb;
BEGIN
    PERFORM {schema}.refuse(coalesce(btrim(command, E' \t\r\n') = '', true), 'the command is empty');
    PERFORM {schema}.refuse(octet_length(command) > 1048576, 'the command has more than 1048576 bytes');
    PERFORM {schema}.refuse(name !~ '^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$', format('id %L is not allowed', name),
        'a letter or digit, then letters, digits and . _ : -, at most 128 characters');
    PERFORM {schema}.refuse(
        coalesce(length(queue) NOT BETWEEN 1 AND 200 OR queue <> btrim(queue) OR queue ~ unprintable, true),
        format('queue %L is not allowed', queue), 'printable characters, no comma, at most 200');
    PERFORM {schema}.refuse(coalesce(priority NOT BETWEEN -1000 AND 1000, true), 'priority: from -1000 to 1000');
    PERFORM {schema}.refuse(max_retries NOT BETWEEN -1 AND 1000000, 'max_retries: from -1 to 1000000');
    PERFORM {schema}.refuse(run_at IS NOT NULL AND delay IS NOT NULL, 'run_at and delay say the same thing twice');
    PERFORM {schema}.refuse(delay < '0', 'delay: may not be negative');
    PERFORM {schema}.refuse(delay > longest OR run_at NOT BETWEEN 'epoch' AND '8999-12-31 23:59:59Z',
        'the start is out of range', 'use a time from 1970 to 8999, and a delay of at most a hundred years');
    PERFORM {schema}.refuse(timeout <= '0', 'timeout: has to be longer than 0');
    PERFORM {schema}.refuse(timeout > longest, 'timeout: is longer than a hundred years');
    PERFORM {schema}.refuse(cardinality(after) > 10000 OR array_ndims(after) > 1 OR array_position(after, NULL) IS NOT NULL,
        'after: has to be a list of at most 10000 ids');
    PERFORM {schema}.refuse(cardinality(tags) > 100 OR array_ndims(tags) > 1 OR array_position(tags, NULL) IS NOT NULL
        OR EXISTS (SELECT FROM unnest(tags) AS tag WHERE length(tag) NOT BETWEEN 1 AND 200),
        'tags: has to be a list of at most 100 words, each of 1 to 200 characters');
    PERFORM {schema}.refuse(length(unique_key) NOT BETWEEN 1 AND 200, 'unique_key: from 1 to 200 characters');
    PERFORM {schema}.refuse(length(batch) NOT BETWEEN 1 AND 200, 'batch: from 1 to 200 characters');
    PERFORM {schema}.refuse(octet_length(meta::text) > 16384, 'meta has more than 16 KiB');
    PERFORM {schema}.refuse(jsonb_path_exists(meta, '$.**{100}'), 'meta: is nested too deeply');
    PERFORM {schema}.refuse(jsonb_typeof(meta) <> 'object', 'meta: has to be an object');
    PERFORM {schema}.refuse(jsonb_typeof(env) <> 'object' OR EXISTS (
        SELECT FROM jsonb_each(CASE jsonb_typeof(env) WHEN 'object' THEN env ELSE '{}' END) AS variable
        WHERE jsonb_typeof(variable.value) <> 'string' OR variable.key = '' OR variable.key LIKE '%=%'
            OR octet_length(variable.key || (variable.value #>> '{}')) >= 131071),
        'env: has to be an object of texts, none longer than the system allows (131071 bytes)');

    IF EXISTS (SELECT FROM {schema}.body WHERE body.id = name) THEN
        RETURN {schema}.known(name, digest);
    END IF;

    SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('job', parts[1], 'on', nullif(parts[2], 'ok'))) ORDER BY place),
        jsonb_agg(DISTINCT parts[1])
    INTO parents, waiting
    FROM unnest(after) WITH ORDINALITY AS wish (text, place),
        LATERAL (SELECT coalesce(regexp_match(text, '^(.+):(ok|any|failed)$'), ARRAY[text, 'ok']) AS parts) AS split;
    SELECT missing INTO lacking FROM jsonb_array_elements_text(waiting) AS missing
        WHERE NOT EXISTS (SELECT FROM {schema}.body WHERE body.id = missing) LIMIT 1;
    PERFORM {schema}.refuse(lacking IS NOT NULL, format('there is no job %L to wait for', lacking));

    spec := jsonb_strip_nulls(jsonb_build_object(
        'command', command, 'cwd', cwd, 'timeout', {schema}.span(coalesce(
            timeout, nullif({schema}.setting('timeout'), 'none')::interval)),
        'kill_grace', {schema}.span({schema}.setting('kill_grace')::interval),
        'retry', jsonb_build_object(
            'max_retries', coalesce(max_retries, {schema}.setting('max_retries')::integer),
            'max_losses', {schema}.setting('max_losses')::integer,
            'base', {schema}.setting('backoff_base')::numeric,
            'factor', {schema}.span({schema}.setting('backoff_factor_ms')::integer * interval '1 millisecond'),
            'longest', {schema}.span({schema}.setting('backoff_max')::interval),
            'jitter', {schema}.setting('jitter')::numeric),
        'output_limit', pg_size_bytes(replace({schema}.setting('output_limit'), 'iB', 'B')),
        'unique_key', unique_key, 'after', parents, 'batch', batch, 'tags', to_jsonb(tags),
        'boost', {schema}.span({schema}.setting('priority_boost')::interval), 'content', digest));
    spec := spec || CASE WHEN env IS NULL THEN '{}' ELSE jsonb_build_object('env', env) END
        || CASE WHEN meta IS NULL THEN '{}' ELSE jsonb_build_object('meta', meta) END;  -- a null in them is theirs

    INSERT INTO {schema}.body (id, created_at, unique_key, batch, tags, spec)
        VALUES (name, moment, unique_key, batch, tags, spec::text) ON CONFLICT DO NOTHING RETURNING number INTO taken;
    IF taken IS NULL THEN
        RETURN {schema}.known(name, digest);
    END IF;
    INSERT INTO {schema}.live (number, unique_key, version, due, state, queue, priority, run_at, sort_key, updated_at,
            attempts, failures, losses, waiting_for, history_dropped, output_tail)
        SELECT taken, unique_key, 1,
            CASE WHEN hold OR waiting IS NOT NULL THEN NULL WHEN start <= moment THEN 1 ELSE 0 END,
            CASE WHEN hold THEN 'held' WHEN waiting IS NOT NULL THEN 'blocked' ELSE 'pending' END,
            queue, priority, start, start / 1000 - priority * boost, moment, 0, 0, 0, waiting, 0, ''
        ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'unique key % is taken by job %', unique_key,
            (SELECT body.id FROM {schema}.live JOIN {schema}.body USING (number) WHERE live.unique_key = enqueue.unique_key)
            USING ERRCODE = 'unique_violation';
    END IF;
    PERFORM pg_notify('{channel}', 'work');  -- a caller's transaction may be long: it is not to hold the bell
    RETURN name;
END
$body$;

REVOKE ALL ON FUNCTION {schema}.enqueue FROM PUBLIC;

-- Every job, for readers: times as timestamps, the specification as JSON.
CREATE VIEW {schema}.job AS
    SELECT number, id, state, queue, priority, spec::json ->> 'command' AS command, attempts, exit_code, last_error,
        output_tail, {schema}.moment(created_at) AS created_at, {schema}.moment(run_at) AS run_at,
        {schema}.moment(started_at) AS started_at, {schema}.moment(finished_at) AS finished_at,
        {schema}.moment(updated_at) AS updated_at, worker, batch, tags, job.unique_key, spec::json AS spec
    FROM (SELECT * FROM {schema}.live UNION ALL SELECT * FROM {schema}.ended) AS job JOIN {schema}.body USING (number);
