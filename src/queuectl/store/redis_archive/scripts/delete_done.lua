-- deleting → gone: the archive has deleted its copies of these jobs. Idempotent.
--
-- uses: clock, memory
-- KEYS  the hash tag
-- ARGV  now or '', then their numbers
--
-- `gone` remembers a deletion for a day. An archiver that was suspended before the deletion may still write an old copy. As long
-- as the deletion is remembered, audit_compare.lua deletes that copy instead of treating it as a job that Redis has lost.

local DAY = 86400000000
bypass_maxmemory()
for i = 2, #ARGV do redis.call('HDEL', P .. 'leaving', ARGV[i]) end
local old = plus(clock(ARGV[1]), -DAY)
for _, number in ipairs(redis.call('ZRANGEBYSCORE', P .. 'gone', '-inf', old, 'LIMIT', 0, 1000)) do
    redis.call('ZREM', P .. 'gone', number)
end
