-- Count the jobs that are here anew, a piece at a time, while others go on.
--
-- KEYS  the hash tag
-- ARGV  '1' to mend or '0' to count only, the number that was reached (zeros to begin), how many jobs at most
-- Answers {number reached}; {'', how many sums were wrong} at the end; nothing if another one counts now

go_through()
if not counts_on('counts', ARGV[2]) then return false end
local found = redis.call('ZRANGEBYSCORE', P .. 'created', '(' .. ARGV[2], '+inf', 'LIMIT', 0, ARGV[3])
for _, number in ipairs(found) do
    local job = redis.call('HMGET', P .. 'job:' .. number, 'state', 'queue')
    if job[1] and job[2] then add_to('recount:counts', job[1] .. ' ' .. job[2], 1) end
end
if #found < tonumber(ARGV[3]) then return {'', settle(ARGV[1] == '1', 'counts')} end
local reached = found[#found]
reach('counts', reached, reached)
return {reached}
