-- Why a job is cancelled or held. Older workers do not write this column, so jobs that they cancel have no cause.
ALTER TABLE job ADD COLUMN cause TEXT;
