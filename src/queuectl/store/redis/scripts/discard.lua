-- Delete jobs that cannot be decoded, whatever their state.
--
-- KEYS  the hash tag
-- ARGV  now or '', then their numbers
-- Answers the numbers of those that were there
--
-- Where there is an archive, it may have a copy by now, or older output: that is noted, until it has none.

local now, gone, archives = clock(ARGV[1]), {}, redis.call('EXISTS', P .. 'archive') == 1
go_through()
for i = 2, #ARGV do
    local number = ARGV[i]
    if redis.call('EXISTS', P .. 'job:' .. number) == 1 then
        local job = redis.call('HMGET', P .. 'job:' .. number, 'state', 'queue', 'id', 'key')
        redis.call('ZREM', P .. 'delayed', number)
        if job[1] then leave(number, job[1], job[2] or '', job[4]) end
        if job[1] and job[2] then count('counts', number, job[1], job[2], -1) end
        forget(number, job[3])
        if archives and job[3] then
            redis.call('HSET', P .. 'leaving', number, job[3])
            redis.call('ZADD', P .. 'gone', now, number)
        end
        gone[#gone + 1] = number
    end
end
return gone
