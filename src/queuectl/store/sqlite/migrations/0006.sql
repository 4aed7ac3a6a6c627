-- The last progress that a command reported, as JSON with the id of its attempt.

ALTER TABLE job ADD COLUMN progress TEXT;
