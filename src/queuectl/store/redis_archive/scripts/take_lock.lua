-- Take the lock of an audit. One worker compares queue and archive regularly, and again after the server's history has changed,
-- because then the server may have lost writes.
--
-- uses: memory
-- KEYS  the hash tag
-- ARGV  for how many milliseconds
-- Answers 1 if the caller has the lock

local lock, history = P .. 'turn:audit', redis.call('GET', P .. 'history') or ''
if redis.call('GET', lock) == history then return 0 end
bypass_maxmemory()
redis.call('SET', lock, history, 'PX', ARGV[1])
return 1
