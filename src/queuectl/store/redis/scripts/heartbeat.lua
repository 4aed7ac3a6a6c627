-- Enter a worker or renew its entry. An instruction that was stored after the caller had read the last one stays.
--
-- uses: memory
-- KEYS  the hash tag
-- ARGV  worker id, the worker as text, the instruction that was read or '', the instruction that remains or ''
-- Answers the pending instruction, or nothing

bypass_maxmemory()
redis.call('HSET', P .. 'workers', ARGV[1], ARGV[2])
local asked = redis.call('HGET', P .. 'asked', ARGV[1]) or ''
if asked == ARGV[3] then asked = ARGV[4] end
if asked == '' then
    redis.call('HDEL', P .. 'asked', ARGV[1])
    return false
end
redis.call('HSET', P .. 'asked', ARGV[1], asked)
return asked
