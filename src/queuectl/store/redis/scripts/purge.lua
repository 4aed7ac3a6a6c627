-- Delete jobs that have ended, with their output.
--
-- KEYS  the hash tag
-- ARGV  number and version of each, as it was looked at; the caller sends at most a thousand
-- Answers the numbers that were deleted: what has changed since is left alone

local gone = {}
for i = 1, #ARGV, 2 do
    local number = ARGV[i]
    local job = redis.call('HMGET', P .. 'job:' .. number, 'version', 'state', 'queue', 'id')
    if job[1] == ARGV[i + 1] and has_ended(job[2]) then
        leave(number, job[2], job[3], nil)
        count(job[2], job[3], -1)
        wait_no_more(number)
        forget(number, job[4])
        -- A mover may have given the archive a copy already: it is told so when it comes back.
        if archives then redis.call('HSET', P .. 'purged', number, '1') end
        gone[#gone + 1] = number
    end
end
return gone
