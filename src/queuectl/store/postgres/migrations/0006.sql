-- Entries of the shared tables that need work at a time, and jobs that are added with a change of an entry.

ALTER TABLE {schema}.shared ADD COLUMN due bigint;
CREATE INDEX shared_due ON {schema}.shared (due) WHERE due IS NOT NULL;

-- Change each entry that has the given version, and add its jobs. Returns for each, in the order of the batch, whether it
-- was changed. The entries are locked in the order of their names, so that two batches do not deadlock.
CREATE FUNCTION {schema}.swap(swaps json) RETURNS boolean[] LANGUAGE plpgsql {safely} AS $body$
#variable_conflict use_variable
DECLARE
    each record;
    made boolean[] := '{}';
BEGIN
    FOR each IN
        SELECT * FROM json_to_recordset(swaps) AS sent (
            place integer, "table" text, key text, value jsonb, version integer, due bigint, jobs json
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
            PERFORM {schema}.add_3(each.jobs);
        END IF;
    END LOOP;
    IF true = ANY (made) THEN
        PERFORM {schema}.ring('work');
    END IF;
    RETURN made;
END
$body$;
