-- Compare and swap: store each job if its version is still the one that was read.
--
-- uses: archive, batch, clock, counts, events, history, index, memory, notify, state, waits, write
-- KEYS  the hash tag
-- ARGV  now or '', then a packed job each: id, version, the fields of its hash that change, asked (it is to be cancelled),
--       waits, event (as a line)
-- Answers for each its new version, 'stale' (it has changed), 'taken' (another job has its unique key), 'past' (the archive
--         has it, and may have this version) or 'absent'
--
-- Work: some six commands for each job, and as many for the batch; the caller sends some hundreds at most.

local now, answers, works, ends = clock(ARGV[1]), {}, false, false

local function save(job)
    local number = redis.call('HGET', P .. 'ids', job.id)
    if not number then
        local archived = redis.call('ZSCORE', P .. 'past', job.id)
        if not archived then return 'absent' end
        return tonumber(archived) <= tonumber(job.version) and 'past' or 'stale'
    end
    local old = redis.call('HMGET', P .. 'job:' .. number, 'version', 'state', 'queue', 'key')
    if old[1] ~= job.version or not old[2] or not old[3] then return 'stale' end
    local key = old[4]
    if key and not has_ended(job.state) then
        local holder = redis.call('HGET', P .. 'keys', key)
        if holder and holder ~= number then return 'taken' end
    end
    unindex(number, old[2], old[3], key)
    count(old[2], old[3], -1)
    write(number, job)
    count(job.state, job.queue, 1)
    local version = next_version(number)
    index(number, job, key, now)
    set_parents(number, job.waits)
    if has_ended(job.state) then send_to_archive(number, job.id, version) end
    if job.event then tell(number, job.event, now) end
    ends = ends or has_ended(job.state)
    works = works or job.asked or waits_to_run(job.state) and tonumber(job.run_at) <= tonumber(now)
    return version
end

bypass_maxmemory()
change_batch(function()
    for i = 2, #ARGV do answers[i - 1] = save(cmsgpack.unpack(ARGV[i])) end
end)
if works then notify('work') end
if ends then notify('end') end
return answers
