-- How many jobs there are per state and queue, those that the archive has and those that are here.
--
-- KEYS  the hash tag
-- Answers two flat lists of state, a space and queue, and how many

return {redis.call('HGETALL', P .. 'past_counts'), redis.call('HGETALL', P .. 'counts')}
