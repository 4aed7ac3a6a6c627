-- Take out of an index what is no job, or a job that does not belong there.
--
-- KEYS  the hash tag
-- ARGV  '1' to mend or '0' to count only, the index, how many to pass over, how many at most
-- Answers how many were looked at, and how many of them did not belong there

local kind, name = string.match(ARGV[2], '^(%a+):(.*)$')

local function belongs(number)
    local job = redis.call('HMGET', P .. 'job:' .. number, 'state', 'queue')
    if not job[1] then return false end
    if kind == 'state' then return job[1] == name end
    if kind == 'ready' then return (job[1] == 'pending' or job[1] == 'failed') and job[2] == name end
    if ARGV[2] == 'delayed' then return job[1] == 'pending' or job[1] == 'failed' end
    if ARGV[2] == 'leased' then return job[1] == 'processing' end
    if ARGV[2] == 'ended' then return has_ended(job[1]) end
    return true
end

local found, wrong = redis.call('ZRANGE', P .. ARGV[2], ARGV[3], ARGV[3] + ARGV[4] - 1), 0
for _, number in ipairs(found) do
    if not belongs(number) then
        wrong = wrong + 1
        if ARGV[1] == '1' then redis.call('ZREM', P .. ARGV[2], number) end
    end
end
return {#found, wrong}
