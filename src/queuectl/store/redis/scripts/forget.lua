-- Remove a worker from the registry.
--
-- KEYS  the hash tag
-- ARGV  worker id

go_through()
redis.call('HDEL', P .. 'workers', ARGV[1])
redis.call('HDEL', P .. 'asked', ARGV[1])
ring('end')
