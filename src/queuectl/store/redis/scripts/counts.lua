-- How many jobs there are per state and queue, in the archive and in Redis.
--
-- Changes nothing.
-- KEYS  the hash tag
-- Answers two flat lists of state, a space and queue, and how many

return {redis.call('HGETALL', P .. 'past_counts'), redis.call('HGETALL', P .. 'counts')}
