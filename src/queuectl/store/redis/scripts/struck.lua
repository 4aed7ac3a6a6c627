-- The archive has no older copies of these jobs any more: their entries are done with.
--
-- KEYS  the hash tag
-- ARGV  entry and number of each

for i = 1, #ARGV, 2 do
    redis.call('HDEL', P .. 'purged', ARGV[i + 1])
    redis.call('XACK', P .. 'stream', 'movers', ARGV[i])
    redis.call('XDEL', P .. 'stream', ARGV[i])
end
