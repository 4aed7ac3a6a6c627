-- Delete some of the oldest events.
--
-- uses: memory
-- KEYS  the hash tag
-- ARGV  a time in microseconds: events that were written before it are deleted; how many of the newest events to keep, however young the
--       others are; how many to delete at most
-- Answers how many were deleted

local events = P .. 'events'
local before, length = tonumber(ARGV[1]), redis.call('XLEN', P .. 'events')
local beyond, count = length - tonumber(ARGV[2]), 0
local oldest = redis.call('XRANGE', events, '-', '+', 'COUNT', ARGV[3])
for i, entry in ipairs(oldest) do
    if i > beyond and (tonumber(entry[2][2]) or 0) >= before then break end
    count = i
end
if count > 0 then
    bypass_maxmemory()
    redis.call('SET', P .. 'trimmed', oldest[count][1])
    redis.call('XTRIM', events, 'MAXLEN', length - count)
end
return count
