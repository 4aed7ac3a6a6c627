-- Jobs that the archive has by now: they leave, but for their counts and their ids.
--
-- KEYS  the hash tag
-- ARGV  entry, number, version and id of each
-- Answers two lists of entries: of jobs that live on here with another version, and of jobs that were deleted. The
--         archive may have got an old copy of these just now, so their entries stay until it has let them go (drop_entries.lua)
--
-- The other entries go in the same step, so that nothing is archived and forgotten, and nothing twice.

local changed, deleted = {}, {}

local function leave_for_good(number, version, id, job)
    leave(number, job[2], job[3], nil)
    count('counts', number, job[2], job[3], -1)
    count('past_counts', number, job[2], job[3], 1)
    forget(number, id)
    redis.call('ZADD', P .. 'past', version, id)
end

local function is_past(id, version)
    return tonumber(redis.call('ZSCORE', P .. 'past', id) or '-1') >= tonumber(version)
end

-- Who deletes a job leaves its entry, or a note. If there is neither, the queue was set back in time, and knows nothing of
-- it: then the copy is all that there is, and the audit will find it.
local function was_deleted(entry, number)
    return redis.call('ZSCORE', P .. 'gone', number) or #redis.call('XRANGE', P .. 'stream', entry, entry) == 1
end

go_through()
for i = 1, #ARGV, 4 do
    local entry, number, version, id = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    local job = redis.call('HMGET', P .. 'job:' .. number, 'version', 'state', 'queue')
    if job[1] and (job[1] ~= version or not has_ended(job[2])) then
        changed[#changed + 1] = entry
    elseif not job[1] and not is_past(id, version) then
        if was_deleted(entry, number) then deleted[#deleted + 1] = entry end
    else
        if job[1] then leave_for_good(number, version, id, job) end
        redis.call('XACK', P .. 'stream', 'movers', entry)
        redis.call('XDEL', P .. 'stream', entry)
    end
end
return {changed, deleted}
