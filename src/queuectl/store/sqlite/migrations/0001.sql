-- The first schema. A time is a number of microseconds since 1970.
-- The partial indexes name states as literals: a statement must repeat the term word for word to use such an index.
-- `x = 'a' OR x = 'b'` instead of `IN`: a longer IN builds a table in memory for each written row, which costs three times
-- as much.

-- The changing part of a job, one narrow row each. The constant part is in `spec`.
-- due: 1 = may be claimed now, 0 = may be claimed from run_at on, NULL = cannot be claimed.
CREATE TABLE job (
    number            INTEGER PRIMARY KEY AUTOINCREMENT,
    id                TEXT    NOT NULL UNIQUE,
    created_at        INTEGER NOT NULL,
    unique_key        TEXT,
    batch             TEXT,
    version           INTEGER NOT NULL,
    due               INTEGER CHECK (due = 0 OR due = 1),
    state             TEXT    NOT NULL CHECK (
        state = 'pending' OR state = 'processing' OR state = 'completed' OR state = 'failed' OR
        state = 'dead' OR state = 'cancelled' OR state = 'blocked' OR state = 'held'),
    queue             TEXT    NOT NULL,
    priority          INTEGER NOT NULL,
    run_at            INTEGER NOT NULL,
    sort_key          INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    attempts          INTEGER NOT NULL CHECK (attempts >= 0),
    failures          INTEGER NOT NULL CHECK (failures >= 0),
    losses            INTEGER NOT NULL CHECK (losses >= 0),
    attempt_id        TEXT,
    worker            TEXT,
    claimed_at        INTEGER,
    lease_until       INTEGER,
    slot              INTEGER,
    pid               INTEGER,
    lease_started_at  INTEGER,
    cancel_requested  TEXT,
    waiting_for       TEXT,
    history           TEXT,
    history_dropped   INTEGER NOT NULL,
    last_error        TEXT,
    exit_code         INTEGER,
    output_tail       TEXT    NOT NULL,
    started_at        INTEGER,
    finished_at       INTEGER,
    CHECK ((due IS NOT NULL) = (state = 'pending' OR state = 'failed')),
    CHECK ((state = 'processing') = (attempt_id IS NOT NULL AND worker IS NOT NULL AND lease_until IS NOT NULL)),
    CHECK ((state = 'completed' OR state = 'dead' OR state = 'cancelled') = (finished_at IS NOT NULL))
) STRICT;

CREATE INDEX job_ready ON job (queue, sort_key) WHERE due = 1;
CREATE INDEX job_delayed ON job (run_at) WHERE due = 0;
CREATE INDEX job_processing ON job (lease_until) WHERE state = 'processing';
CREATE INDEX job_ended ON job (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX job_rare ON job (state)
    WHERE state = 'failed' OR state = 'dead' OR state = 'cancelled' OR state = 'blocked' OR state = 'held';
CREATE INDEX job_batch ON job (batch) WHERE batch IS NOT NULL;
CREATE INDEX job_key ON job (unique_key) WHERE unique_key IS NOT NULL;
CREATE UNIQUE INDEX job_key_alive ON job (unique_key) WHERE unique_key IS NOT NULL AND finished_at IS NULL;

-- The constant part of a job, written once.
CREATE TABLE spec (
    number INTEGER PRIMARY KEY,
    spec   TEXT NOT NULL
) STRICT;

-- Which jobs wait for which job: from parent to child.
CREATE TABLE waiting (
    parent TEXT    NOT NULL,
    child  INTEGER NOT NULL,
    PRIMARY KEY (parent, child)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER waiting_begins AFTER INSERT ON job WHEN new.waiting_for IS NOT NULL BEGIN
    INSERT OR IGNORE INTO waiting (parent, child) SELECT value, new.number FROM json_each(new.waiting_for);
END;

CREATE TRIGGER waiting_changes AFTER UPDATE OF waiting_for ON job WHEN new.waiting_for IS NOT old.waiting_for BEGIN
    DELETE FROM waiting WHERE child = new.number
        AND parent IN (SELECT value FROM json_each(coalesce(old.waiting_for, '[]')));
    INSERT OR IGNORE INTO waiting (parent, child)
        SELECT value, new.number FROM json_each(coalesce(new.waiting_for, '[]'));
END;

-- How many jobs a queue has in a state, so that counting never scans the jobs. Triggers keep it equal to the jobs.
CREATE TABLE tally (
    queue TEXT    NOT NULL,
    state TEXT    NOT NULL,
    n     INTEGER NOT NULL CHECK (n >= 0),
    PRIMARY KEY (queue, state)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER tally_enters AFTER INSERT ON job BEGIN
    INSERT INTO tally VALUES (new.queue, new.state, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;

CREATE TRIGGER tally_moves AFTER UPDATE OF state, queue ON job
WHEN new.state <> old.state OR new.queue <> old.queue BEGIN
    UPDATE tally SET n = n - 1 WHERE queue = old.queue AND state = old.state;
    INSERT INTO tally VALUES (new.queue, new.state, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;

-- Deleting a job deletes everything that belongs to it.
CREATE TRIGGER job_goes AFTER DELETE ON job BEGIN
    UPDATE tally SET n = n - 1 WHERE queue = old.queue AND state = old.state;
    DELETE FROM spec WHERE number = old.number;
    DELETE FROM output WHERE job = old.number;
    DELETE FROM waiting WHERE child = old.number
        AND parent IN (SELECT value FROM json_each(coalesce(old.waiting_for, '[]')));
END;

-- The output of commands, in numbered chunks.
CREATE TABLE output (
    attempt_id TEXT    NOT NULL,
    n          INTEGER NOT NULL,
    job        INTEGER NOT NULL,
    stream     INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    start      INTEGER NOT NULL,
    data       BLOB    NOT NULL
) STRICT;

CREATE UNIQUE INDEX output_chunk ON output (attempt_id, n);
CREATE INDEX output_job ON output (job);

-- The registry of workers, and the pending instruction of each.
CREATE TABLE worker (
    id         TEXT    PRIMARY KEY,
    started_at INTEGER NOT NULL,
    worker     TEXT    NOT NULL,
    asked      TEXT    CHECK (asked IN ('drain', 'stop', 'reload'))
) STRICT, WITHOUT ROWID;

-- Settings and queues: small values that are changed by compare-and-swap.
CREATE TABLE shared (
    name    TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    value   TEXT    NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (name, key)
) STRICT, WITHOUT ROWID;
