-- The number of jobs per state and queue, in the archive and in Redis.
--
-- Changes nothing.
-- KEYS  the hash tag
-- Answers two flat lists of pairs: state, a space and queue; and the number of jobs

return {redis.call('HGETALL', P .. 'past_counts'), redis.call('HGETALL', P .. 'counts')}
