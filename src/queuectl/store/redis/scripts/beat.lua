-- Enter a worker or renew its entry; what was asked of it since it was looked at stays asked.
--
-- KEYS  the hash tag
-- ARGV  worker id, the worker as text, what was asked when it was looked at or '', what is left of that or ''
-- Answers what is asked of it now, or nothing

go_through()
redis.call('HSET', P .. 'workers', ARGV[1], ARGV[2])
local asked = redis.call('HGET', P .. 'asked', ARGV[1]) or ''
if asked == ARGV[3] then asked = ARGV[4] end
if asked == '' then
    redis.call('HDEL', P .. 'asked', ARGV[1])
    return false
end
redis.call('HSET', P .. 'asked', ARGV[1], asked)
return asked
