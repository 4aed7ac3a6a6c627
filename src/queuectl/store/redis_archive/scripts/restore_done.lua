-- restoring → live: the archive has deleted its copies of these jobs, so they may be claimed.
--
-- uses: clock, memory, notify, ready, state
-- KEYS  the hash tag
-- ARGV  now or '', then the number and the value in `arriving` of each
--
-- If the entry in `arriving` is missing or has another value, another process has already completed this step. Idempotent.

local now, works = clock(ARGV[1]), false
bypass_maxmemory()
for i = 2, #ARGV, 2 do
    local number = ARGV[i]
    if redis.call('HGET', P .. 'arriving', number) == ARGV[i + 1] then
        redis.call('HDEL', P .. 'arriving', number)
        local job = redis.call('HMGET', P .. 'job:' .. number, 'state', 'queue', 'run_at', 'sort_key')
        if job[1] and waits_to_run(job[1]) then
            schedule(number, job[2], job[3], job[4], now)
            works = true
        end
    end
end
if works then notify('work') end
