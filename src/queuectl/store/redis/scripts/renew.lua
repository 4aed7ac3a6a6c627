-- Extend the leases of these attempts, if the worker still has the leases, and write their progress.
--
-- uses: clock, history, job, memory
-- KEYS  the hash tag
-- ARGV  now or '', worker, lease in microseconds, then id, attempt id and progress or '' of each
-- Answers the rows of the jobs whose lease was extended

local now, renewed = clock(ARGV[1]), {}
local lease_until = plus(now, ARGV[3])
bypass_maxmemory()
for i = 4, #ARGV, 3 do
    local number = redis.call('HGET', P .. 'ids', ARGV[i])
    local job = number and redis.call('HMGET', P .. 'job:' .. number, 'state', 'attempt_id', 'worker', 'version')
    local ours = job and job[1] == 'processing' and job[2] == ARGV[i + 1] and job[3] == ARGV[2]
    if ours and is_whole_number(job[4]) then
        next_version(number)
        redis.call('HSET', P .. 'job:' .. number, 'lease_until', lease_until, 'updated_at', now)
        if ARGV[i + 2] ~= '' then redis.call('HSET', P .. 'job:' .. number, 'progress', ARGV[i + 2]) end
        redis.call('ZADD', P .. 'leased', lease_until, number)
        redis.call('ZADD', P .. 'updated', now, number)
        renewed[#renewed + 1] = row(number)
    end
end
return renewed
