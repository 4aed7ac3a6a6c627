-- Remove entries from the stream after the archive has deleted the copies of their jobs. Idempotent.
--
-- uses: memory
-- KEYS  the hash tag
-- ARGV  entries

bypass_maxmemory()
for _, entry in ipairs(ARGV) do
    redis.call('XACK', P .. 'stream', 'movers', entry)
    redis.call('XDEL', P .. 'stream', entry)
end
