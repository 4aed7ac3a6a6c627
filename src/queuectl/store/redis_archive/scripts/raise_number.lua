-- No number is given again that the archive knows: the queue may have been set back in time.
--
-- KEYS  the hash tag
-- ARGV  the greatest number that the archive has, or nothing if it cannot be asked: then numbers go on far ahead

local now = tonumber(redis.call('GET', P .. 'number') or '0')
local greatest = ARGV[1] and tonumber(ARGV[1]) or now + 1000000
go_through()
if greatest > now then redis.call('SET', P .. 'number', string.format('%.0f', greatest)) end
redis.call('UNLINK', P .. 'unsure')
