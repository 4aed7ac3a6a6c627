-- Entries of the stream that are done with.
--
-- KEYS  the hash tag
-- ARGV  entries

go_through()
for _, entry in ipairs(ARGV) do
    redis.call('XACK', P .. 'stream', 'movers', entry)
    redis.call('XDEL', P .. 'stream', entry)
end
