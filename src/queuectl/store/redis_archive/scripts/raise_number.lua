-- Give no number that the archive has. After a failover the queue may have lost the last numbers that it gave.
--
-- uses: memory
-- KEYS  the hash tag
-- ARGV  the archive's greatest number, or nothing if the archive is away: then numbers leap by a million

local now = tonumber(redis.call('GET', P .. 'number') or '0')
local floor = ARGV[1] and tonumber(ARGV[1]) or now + 1000000
bypass_maxmemory()
if floor > now then redis.call('SET', P .. 'number', string.format('%.0f', floor)) end
redis.call('UNLINK', P .. 'unsure')
