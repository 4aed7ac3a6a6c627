-- The last progress that a command reported, as JSON with the id of its attempt. It is in `body`, so that it stays with a
-- job that moves between `live` and `ended`, and the functions of older workers neither read nor change it.

ALTER TABLE {schema}.body ADD COLUMN progress text;

-- Insert jobs as import_4 does, with their progress.
CREATE FUNCTION {schema}.import_5(jobs json, events json) RETURNS bigint[] LANGUAGE plpgsql {safely} AS $body$
DECLARE
    numbers bigint[] := {schema}.import_4(jobs, events);
BEGIN
    UPDATE {schema}.body SET progress = sent.progress
    FROM json_to_recordset(jobs) AS sent (place integer, progress text)
    WHERE body.number = numbers[sent.place + 1] AND sent.progress IS NOT NULL;
    RETURN numbers;
END
$body$;
