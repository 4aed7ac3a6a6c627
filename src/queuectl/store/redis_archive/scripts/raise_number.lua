-- Raise the counter of job numbers above every number in the archive. After a failover Redis may have lost the last numbers.
--
-- uses: memory
-- KEYS  the hash tag
-- ARGV  the archive's greatest number, or nothing if the archive cannot be reached: then the counter is raised by a million

local now = tonumber(redis.call('GET', P .. 'number') or '0')
local floor = ARGV[1] and tonumber(ARGV[1]) or now + 1000000
bypass_maxmemory()
if floor > now then redis.call('SET', P .. 'number', string.format('%.0f', floor)) end
redis.call('UNLINK', P .. 'unsure')
