-- write: one event
INSERT INTO event (at, line) VALUES (?, ?);

-- page: the first events behind a cursor
SELECT seq, at, line FROM event WHERE seq > ? ORDER BY seq LIMIT ?;

-- first: the oldest kept event
SELECT min(seq) FROM event;

-- last: the highest number that an event ever had, including deleted events
SELECT seq FROM sqlite_sequence WHERE name = 'event';

-- written_at: when the first event with this number or a higher one was written
SELECT at FROM event WHERE seq >= ? ORDER BY seq LIMIT 1;

-- oldest: the times of the oldest events
SELECT seq, at FROM event ORDER BY seq LIMIT ?;

-- trim: all events up to a number
DELETE FROM event WHERE seq <= ?;
