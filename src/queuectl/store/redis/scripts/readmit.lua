-- Into the stream what has ended and may not be in it: of before there was an archive, or lost with the end of a log.
--
-- KEYS  the hash tag
-- ARGV  how many to pass over, how many at most
-- Answers how many were entered; twice is no harm

local found = redis.call('ZRANGE', P .. 'ended', ARGV[1], ARGV[1] + ARGV[2] - 1)
for _, number in ipairs(found) do
    ended(number, redis.call('HGET', P .. 'job:' .. number, 'version'))
end
return #found
