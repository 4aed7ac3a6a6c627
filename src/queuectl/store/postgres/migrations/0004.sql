-- Clients print an empty hint as `HINT:`, so an error without advice has no hint.
CREATE OR REPLACE FUNCTION {schema}.refuse(broken boolean, message text, hint text DEFAULT '') RETURNS void
LANGUAGE plpgsql {safely} AS $body$
BEGIN
    IF broken AND hint = '' THEN
        RAISE EXCEPTION '%', message USING ERRCODE = 'invalid_parameter_value';
    ELSIF broken THEN
        RAISE EXCEPTION '%', message USING ERRCODE = 'invalid_parameter_value', HINT = hint;
    END IF;
END
$body$;
