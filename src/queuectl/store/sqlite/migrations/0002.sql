-- Why a job is cancelled or held. Older workers write their own columns only: what they end has no cause.
ALTER TABLE job ADD COLUMN cause TEXT;
