-- Triggers that tolerate a `waiting_for` that is not JSON, so that a job that was damaged by hand or by a bad disk can be
-- deleted.

DROP TRIGGER waiting_changes;
CREATE TRIGGER waiting_changes AFTER UPDATE OF waiting_for ON job WHEN new.waiting_for IS NOT old.waiting_for BEGIN
    DELETE FROM waiting WHERE child = new.number
        AND parent IN (SELECT value FROM json_each(CASE WHEN json_valid(old.waiting_for) THEN old.waiting_for ELSE '[]' END));
    INSERT OR IGNORE INTO waiting (parent, child)
        SELECT value, new.number FROM json_each(coalesce(new.waiting_for, '[]'));
END;

DROP TRIGGER job_goes;
CREATE TRIGGER job_goes AFTER DELETE ON job BEGIN
    UPDATE tally SET n = n - 1 WHERE queue = old.queue AND state = old.state;
    DELETE FROM spec WHERE number = old.number;
    DELETE FROM output WHERE job = old.number;
    DELETE FROM waiting WHERE child = old.number
        AND parent IN (SELECT value FROM json_each(CASE WHEN json_valid(old.waiting_for) THEN old.waiting_for ELSE '[]' END));
END;

-- Only these rows record the parents that such a job waited for. It is not a part of `job_goes`, because it reads the whole table.
CREATE TRIGGER damaged_job_goes AFTER DELETE ON job WHEN NOT json_valid(coalesce(old.waiting_for, '[]')) BEGIN
    DELETE FROM waiting WHERE child = old.number;
END;
