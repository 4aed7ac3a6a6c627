-- Remove a worker from the registry.
--
-- uses: memory, notify
-- KEYS  the hash tag
-- ARGV  worker id

bypass_maxmemory()
redis.call('HDEL', P .. 'workers', ARGV[1])
redis.call('HDEL', P .. 'asked', ARGV[1])
notify('end')
