-- Count the jobs that are here anew, a piece at a time, while others go on.
--
-- KEYS  the hash tag
-- ARGV  a name for this run, '1' to mend or '0' to count only, the number that was reached (zeros to begin), how many jobs
--       at most
-- Answers {number reached}; {'', how many sums were wrong} at the end; nothing if another one counts

local run, mends = ARGV[1], ARGV[2] == '1'
go_through()
if not counts_on('counts', run, mends, ARGV[3]) then return false end
local found = redis.call('ZRANGEBYSCORE', P .. 'created', '(' .. ARGV[3], '+inf', 'LIMIT', 0, ARGV[4])
for _, number in ipairs(found) do
    local job = redis.call('HMGET', P .. 'job:' .. number, 'state', 'queue')
    if job[1] and job[2] then add_to('recount:counts', job[1] .. ' ' .. job[2], 1) end
end
if #found < tonumber(ARGV[4]) then return {'', settle(mends, 'counts')} end
local reached = found[#found]
reach('counts', run, reached, reached)
return {reached}
