-- copying → archived: the archive has copies of these jobs, so they leave Redis. Their ids and counts stay.
--
-- uses: archived_counts, counts, erase, index, memory, state
-- KEYS  the hash tag
-- ARGV  entry, number, version and id of each
-- Answers two lists of entries: of jobs that changed while they were copied, and of jobs that were deleted. Their copies are not
--         jobs, and the caller deletes them. The entries stay until then (drop_entries.lua): if the caller dies, another
--         archiver deletes the copies
--
-- This is the commit. A job becomes archived and its entry is removed in one step, so that no archived job is offered again, and
-- no job is removed before the archive has it.

local changed, deleted = {}, {}

local function leave(number, version, id, job)
    unindex(number, job[2], job[3], nil)
    count(job[2], job[3], -1)
    count_archived(number, job[2], job[3], 1)
    erase(number, id)
    redis.call('ZADD', P .. 'past', version, id)
end

local function is_archived(id, version)
    return tonumber(redis.call('ZSCORE', P .. 'past', id) or '-1') >= tonumber(version)
end

-- A deletion leaves the entry in the stream, or an entry in `gone`. If both are missing, Redis has lost the job, for example in a
-- failover, and the copy is all that is left of the job. The copy stays, and the audit enters it into `past`.
-- Test: test_an_archiver_keeps_the_only_copy_after_a_change_of_history.
local function was_deleted(entry, number)
    return redis.call('ZSCORE', P .. 'gone', number) or #redis.call('XRANGE', P .. 'stream', entry, entry) == 1
end

bypass_maxmemory()
for i = 1, #ARGV, 4 do
    local entry, number, version, id = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    local job = redis.call('HMGET', P .. 'job:' .. number, 'version', 'state', 'queue')
    if job[1] and (job[1] ~= version or not has_ended(job[2])) then
        changed[#changed + 1] = entry
    elseif not job[1] and not is_archived(id, version) then
        if was_deleted(entry, number) then deleted[#deleted + 1] = entry end
    else
        if job[1] then leave(number, version, id, job) end
        redis.call('XACK', P .. 'stream', 'movers', entry)
        redis.call('XDEL', P .. 'stream', entry)
    end
end
return {changed, deleted}
