-- The archive has nothing more of these jobs.
--
-- KEYS  the hash tag
-- ARGV  now or '', then their numbers
--
-- That they were deleted is remembered for a day: as long as somebody who was held up may give the archive an old copy.

local DAY = 86400000000
go_through()
for i = 2, #ARGV do redis.call('HDEL', P .. 'leaving', ARGV[i]) end
local old = plus(clock(ARGV[1]), -DAY)
for _, number in ipairs(redis.call('ZRANGEBYSCORE', P .. 'gone', '-inf', old, 'LIMIT', 0, 1000)) do
    redis.call('ZREM', P .. 'gone', number)
end
