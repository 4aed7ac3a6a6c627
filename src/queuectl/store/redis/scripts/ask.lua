-- Ask something of a worker, if there is such a one.
--
-- KEYS  the hash tag
-- ARGV  worker id, what is asked
-- Answers 1, or 0 if nobody knows it

go_through()
local known = redis.call('HEXISTS', P .. 'workers', ARGV[1])
if known == 1 then redis.call('HSET', P .. 'asked', ARGV[1], ARGV[2]) end
ring('work')
return known
