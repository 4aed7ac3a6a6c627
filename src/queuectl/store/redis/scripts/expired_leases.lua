-- Claims whose lease has ended by the server's clock, longest ago first.
--
-- uses: clock, job
-- Changes nothing.
-- KEYS  the hash tag
-- ARGV  now or '', how many at most
-- Answers their rows

return rows(redis.call('ZRANGEBYSCORE', P .. 'leased', '-inf', clock(ARGV[1]), 'LIMIT', 0, ARGV[2]))
