-- Jobs that the archive cannot take: they stay here, and are not offered to it again.
--
-- KEYS  the hash tag
-- ARGV  entry, number and version of each

go_through()
for i = 1, #ARGV, 3 do
    local name = P .. 'job:' .. ARGV[i + 1]
    if redis.call('HGET', name, 'version') == ARGV[i + 2] then redis.call('HSET', name, 'entry', 'stays') end
    redis.call('XACK', P .. 'stream', 'movers', ARGV[i])
    redis.call('XDEL', P .. 'stream', ARGV[i])
end
