-- Compare and swap: store each job if its version is still the one it was read with.
--
-- KEYS  the hash tag
-- ARGV  now or '', then a packed job each: id, version, the fields of its hash that change, asked (it is to be cancelled),
--       waits
-- Answers for each its new version, 'stale' (somebody was faster), 'taken' (another job holds its unique key), 'past' (the
--         archive has it, and may have this version) or 'absent'
--
-- Work: some twenty commands for each job; the caller sends some hundreds at most.

local now, answers, works, ends = clock(ARGV[1]), {}, false, false

local function save(job)
    local number = redis.call('HGET', P .. 'ids', job.id)
    if not number then
        local past = redis.call('ZSCORE', P .. 'past', job.id)
        if not past then return 'absent' end
        return tonumber(past) <= tonumber(job.version) and 'past' or 'stale'
    end
    local old = redis.call('HMGET', P .. 'job:' .. number, 'version', 'state', 'queue', 'key')
    if old[1] ~= job.version or not old[2] or not old[3] then return 'stale' end
    local key = old[4]
    if key and not has_ended(job.state) then
        local holder = redis.call('HGET', P .. 'keys', key)
        if holder and holder ~= number then return 'taken' end
    end
    leave(number, old[2], old[3], key)
    count('counts', number, old[2], old[3], -1)
    write(number, job)
    count('counts', number, job.state, job.queue, 1)
    local version = next_version(number)
    enter(number, job, key, now)
    wait_for(number, job.waits)
    if has_ended(job.state) then depart(number, job.id, version) end
    ends = ends or has_ended(job.state)
    works = works or job.asked or waits_to_run(job.state) and tonumber(job.run_at) <= tonumber(now)
    return version
end

go_through()
for i = 2, #ARGV do
    answers[i - 1] = save(cmsgpack.unpack(ARGV[i]))
end
if works then ring('work') end
if ends then ring('end') end
return answers
