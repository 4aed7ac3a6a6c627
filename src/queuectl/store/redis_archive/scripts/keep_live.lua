-- copying → live: the archive cannot store these jobs. They stay in Redis and are not offered to the archive again.
--
-- uses: memory
-- KEYS  the hash tag
-- ARGV  entry, number and version of each

bypass_maxmemory()
for i = 1, #ARGV, 3 do
    local name = P .. 'job:' .. ARGV[i + 1]
    if redis.call('HGET', name, 'version') == ARGV[i + 2] then redis.call('HSET', name, 'entry', 'stays') end
    redis.call('XACK', P .. 'stream', 'movers', ARGV[i])
    redis.call('XDEL', P .. 'stream', ARGV[i])
end
