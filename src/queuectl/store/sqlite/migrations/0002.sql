-- Why a job is cancelled or held. Older workers write only the columns that they know: jobs that they end have no cause.
ALTER TABLE job ADD COLUMN cause TEXT;
