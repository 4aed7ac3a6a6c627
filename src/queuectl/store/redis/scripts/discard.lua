-- Delete jobs that cannot be decoded, in any state.
--
-- uses: archive, clock, counts, erase, index, memory
-- KEYS  the hash tag
-- ARGV  now or '', then their numbers
-- Answers the numbers of those that existed

local now, deleted, archives = clock(ARGV[1]), {}, has_archive()
bypass_maxmemory()
for i = 2, #ARGV do
    local number = ARGV[i]
    if redis.call('EXISTS', P .. 'job:' .. number) == 1 then
        local job = redis.call('HMGET', P .. 'job:' .. number, 'state', 'queue', 'id', 'key')
        redis.call('ZREM', P .. 'delayed', number)
        if job[1] then unindex(number, job[1], job[2] or '', job[4]) end
        if job[1] and job[2] then count(job[1], job[2], -1) end
        erase(number, job[3])
        if archives and job[3] then note_deletion(number, job[3], now) end
        deleted[#deleted + 1] = number
    end
end
return deleted
