-- Delete jobs that have ended, with their output.
--
-- KEYS  the hash tag
-- ARGV  now or '', then number and version of each, as it was looked at; the caller sends some hundreds at most
-- Answers the numbers that were deleted: what has changed since is left alone
--
-- Where there is an archive, it may have a copy by now, or older output: that is noted, until it has none.

local now, gone, archives = clock(ARGV[1]), {}, redis.call('EXISTS', P .. 'archive') == 1
go_through()
for i = 2, #ARGV, 2 do
    local number = ARGV[i]
    local job = redis.call('HMGET', P .. 'job:' .. number, 'version', 'state', 'queue', 'id')
    if job[1] == ARGV[i + 1] and has_ended(job[2]) then
        leave(number, job[2], job[3], nil)
        count('counts', number, job[2], job[3], -1)
        forget(number, job[4])
        if archives then
            redis.call('HSET', P .. 'leaving', number, job[4])
            redis.call('ZADD', P .. 'gone', now, number)
        end
        gone[#gone + 1] = number
    end
end
return gone
