-- Whether an attempt is running.
--
-- Changes nothing.
-- KEYS  the hash tag
-- ARGV  attempt id
-- Answers 1 or 0
--
-- Work: one command for each running job, of which there are as many as slots.

for _, number in ipairs(redis.call('ZRANGE', P .. 'leased', 0, -1)) do
    if redis.call('HGET', P .. 'job:' .. number, 'attempt_id') == ARGV[1] then return 1 end
end
return 0
