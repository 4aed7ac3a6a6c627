-- page: the first events behind a cursor, or behind the start if the cursor is outside the kept events; one row or more
WITH edge AS (
    SELECT trimmed.xid AS first_xid, trimmed.seq AS first_seq,
        coalesce(last.xid, trimmed.xid) AS last_xid, coalesce(last.seq, trimmed.seq) AS last_seq
    FROM {schema}.event_trimmed AS trimmed LEFT JOIN LATERAL (
        SELECT xid, seq FROM {schema}.event WHERE xid < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY xid DESC, seq DESC LIMIT 1
    ) AS last ON true
), asked AS (
    SELECT edge.*, coalesce(%(xid)s::text::xid8, first_xid) AS xid, coalesce(%(seq)s::bigint, first_seq) AS seq FROM edge
), judged AS (
    SELECT *, (xid, seq) < (first_xid, first_seq) OR (xid, seq) > (last_xid, last_seq) AS gap FROM asked
), start AS (
    SELECT gap, CASE WHEN gap THEN first_xid ELSE xid END AS xid, CASE WHEN gap THEN first_seq ELSE seq END AS seq
    FROM judged
)
SELECT start.xid || '-' || start.seq, gap, page.xid || '-' || page.seq, at, number, line
FROM start LEFT JOIN LATERAL (
    SELECT * FROM {schema}.event
    WHERE (event.xid, event.seq) > (start.xid, start.seq) AND event.xid < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY event.xid, event.seq LIMIT %(limit)s
) AS page ON true
ORDER BY page.xid, page.seq;

-- cursor: behind the last event before the first one that was written at this time or later; NULL: behind the last
SELECT coalesce(last.xid, trimmed.xid) || '-' || coalesce(last.seq, trimmed.seq)
FROM {schema}.event_trimmed AS trimmed LEFT JOIN LATERAL (
    SELECT xid, seq FROM {schema}.event WHERE at >= %(at)s::bigint ORDER BY xid, seq LIMIT 1
) AS wanted ON true LEFT JOIN LATERAL (
    SELECT xid, seq FROM {schema}.event
    WHERE event.xid < pg_snapshot_xmin(pg_current_snapshot()) AND (event.xid, event.seq)
        < (coalesce(wanted.xid, pg_snapshot_xmin(pg_current_snapshot())), coalesce(wanted.seq, 0))
    ORDER BY xid DESC, seq DESC LIMIT 1
) AS last ON true;

-- lock: let only one transaction trim
SELECT FROM {schema}.event_trimmed FOR UPDATE;

-- move_back: events that come from another server, whose transactions have higher numbers, are the oldest here
WITH moved AS (UPDATE {schema}.event SET xid = '0' WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()))
UPDATE {schema}.event_trimmed SET xid = '0' WHERE xid >= pg_snapshot_xmax(pg_current_snapshot());

-- trim: delete some of the oldest events: those before a time, and those with a number of at most the last minus `keep`
WITH oldest AS (
    SELECT event.xid, event.seq, at < %(before)s OR event.seq <= %(keep)s AS is_old
    FROM {schema}.event_trimmed AS trimmed CROSS JOIN LATERAL (
        SELECT * FROM {schema}.event
        WHERE (event.xid, event.seq) > (trimmed.xid, trimmed.seq) AND event.xid < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY event.xid, event.seq LIMIT %(limit)s
    ) AS event
), judged AS (
    SELECT xid, seq, bool_and(is_old) OVER (ORDER BY xid, seq) AS goes FROM oldest
), last AS (
    SELECT xid, seq FROM judged WHERE goes ORDER BY xid DESC, seq DESC LIMIT 1
), noted AS (
    UPDATE {schema}.event_trimmed SET xid = last.xid, seq = last.seq FROM last
)
DELETE FROM {schema}.event USING last WHERE (event.xid, event.seq) <= (last.xid, last.seq);

-- last_seq: the highest number that an event got, also one whose transaction was rolled back
SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('{schema}.event', 'seq')::regclass), 0);

-- tell: write the events of jobs that were just deleted
SELECT {schema}.tell(%s::bigint[], %s::json);
