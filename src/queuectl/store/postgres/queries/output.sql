-- write: store chunks, then trim; returns the attempts that no longer have their job
SELECT refused FROM {schema}.write_output(
    %s::text[], %s::text[], %s::integer[], %s::smallint[], %s::bigint[], %s::bigint[], %b::bytea[],
    %s::text[], %s::text[], %s::integer[], %s::integer[]) AS refused;

-- chunks: of an attempt, in order
SELECT id, attempt_id, n, stream, at, start, data FROM {schema}.output JOIN {schema}.body ON body.number = output.job
WHERE attempt_id = %s AND n > %s ORDER BY n LIMIT %s;
