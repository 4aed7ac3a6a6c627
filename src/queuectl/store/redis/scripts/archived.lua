-- Jobs that the archive has by now: they leave, but for their counts, and for their ids among the past ones.
--
-- KEYS  the hash tag
-- ARGV  now or '', then entry, number and version of each
-- Answers the entries of those that are no longer what was archived: they live again, have ended once more, or were
--         deleted. Their entries stay until the archive has let its copies go (struck.lua).
--
-- The other entries go in the same step, so that nothing is archived and forgotten, and nothing twice.

local now, changed = clock(ARGV[1]), {}
for i = 2, #ARGV, 3 do
    local entry, number, version = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local job = redis.call('HMGET', P .. 'job:' .. number, 'version', 'state', 'queue', 'id')
    if job[1] == version and has_ended(job[2]) then
        leave(number, job[2], job[3], nil)
        wait_no_more(number)
        forget(number, job[4])
        redis.call('ZADD', P .. 'past', now, job[4])
    end
    if (job[1] and job[1] ~= version) or redis.call('HEXISTS', P .. 'purged', number) == 1 then
        changed[#changed + 1] = entry
    else
        redis.call('XACK', P .. 'stream', 'movers', entry)
        redis.call('XDEL', P .. 'stream', entry)
    end
end
return changed
