-- Delete ended jobs with their output.
--
-- uses: archive, clock, counts, erase, events, index, memory, state
-- KEYS  the hash tag
-- ARGV  now or '', then number and version of each, as they were read, and its event as a line or ''; the caller sends some
--       hundreds at most
-- Answers the numbers of the deleted jobs; a job that has changed since then is not deleted

local now, deleted, archives = clock(ARGV[1]), {}, has_archive()
bypass_maxmemory()
for i = 2, #ARGV, 3 do
    local number = ARGV[i]
    local job = redis.call('HMGET', P .. 'job:' .. number, 'version', 'state', 'queue', 'id')
    if job[1] == ARGV[i + 1] and has_ended(job[2]) then
        unindex(number, job[2], job[3], nil)
        count(job[2], job[3], -1)
        erase(number, job[4])
        if archives then note_deletion(number, job[4], now) end
        if ARGV[i + 2] ~= '' then tell(number, ARGV[i + 2], now) end
        deleted[#deleted + 1] = number
    end
end
return deleted
