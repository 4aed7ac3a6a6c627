-- Remove entries from the stream, whose copies the archive has deleted again. Idempotent.
--
-- uses: memory
-- KEYS  the hash tag
-- ARGV  entries

bypass_maxmemory()
for _, entry in ipairs(ARGV) do
    redis.call('XACK', P .. 'stream', 'movers', entry)
    redis.call('XDEL', P .. 'stream', entry)
end
