-- Compare and swap: store each job if its version is still the one it was read with.
--
-- KEYS  the hash tag
-- ARGV  now or '', then a packed job each: id, version, the fields of its hash that change, finished_at, asked (it is to
--       be cancelled), waits
-- Answers for each 'accepted', 'stale' (somebody was faster), 'taken' (another job holds its unique key) or 'absent'

local now, answers, works, ends = clock(ARGV[1]), {}, false, false

local function save(job)
    local number = redis.call('HGET', P .. 'ids', job.id)
    if not number then return 'absent' end
    local old = redis.call('HMGET', P .. 'job:' .. number, 'version', 'state', 'queue', 'key')
    if old[1] ~= job.version then return 'stale' end
    local key = old[4]
    if key and not has_ended(job.state) then
        local holder = redis.call('HGET', P .. 'keys', key)
        if holder and holder ~= number then return 'taken' end
    end
    leave(number, old[2], old[3], not has_ended(old[2]) and key)
    count(old[2], old[3], -1)
    write(number, job)
    count(job.state, job.queue, 1)
    local version = redis.call('HINCRBY', P .. 'job:' .. number, 'version', 1)
    enter(number, job, key, now)
    wait_no_more(number)
    wait_for(number, job.waits)
    if has_ended(job.state) then ended(number, version) end
    ends = ends or has_ended(job.state)
    works = works or job.asked or (job.state == 'pending' or job.state == 'failed') and tonumber(job.run_at) <= tonumber(now)
    return 'accepted'
end

for i = 2, #ARGV do
    answers[i - 1] = save(cmsgpack.unpack(ARGV[i]))
end
if works then ring('work') end
if ends then ring('end') end
return answers
