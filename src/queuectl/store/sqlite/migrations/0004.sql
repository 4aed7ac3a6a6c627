-- When an entry of a shared table needs work next. Only entries with such a time are in the index.

ALTER TABLE shared ADD COLUMN due INTEGER;
CREATE INDEX shared_due ON shared (due) WHERE due IS NOT NULL;
