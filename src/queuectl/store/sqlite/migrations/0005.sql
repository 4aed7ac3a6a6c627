-- The events of jobs. One connection writes at a time, so the numbers are the order of the commits, without gaps.
-- AUTOINCREMENT never uses the number of a deleted event again.

CREATE TABLE event (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    at   INTEGER NOT NULL,
    line TEXT    NOT NULL
) STRICT;
