-- Jobs come back from the archive, changed. They are here from now on, but in no line before the archive has let them go.
--
-- KEYS  the hash tag
-- ARGV  now or '', then number, version, state and queue that each had, and the packed job; the caller sends some hundreds
-- Answers for each {'accepted', its version}, {'stale'} (it is here, deleted, or archived anew) or {'taken'} (its unique
--         key is)
--
-- The first write wants memory: so when there is none, all of it is refused.

local now, answers = clock(ARGV[1]), {}

local function arrive(number, was, state, queue, job)
    local version = redis.call('ZSCORE', P .. 'past', job.id)
    if not version or tonumber(version) > tonumber(was) then return {'stale'} end
    if redis.call('HEXISTS', P .. 'ids', job.id) == 1 or redis.call('EXISTS', P .. 'job:' .. number) == 1 then
        return {'stale'}
    end
    if job.key and not has_ended(job.state) and redis.call('HEXISTS', P .. 'keys', job.key) == 1 then return {'taken'} end
    create(number, job)
    write(number, job)
    local fresh = next_version(number)
    redis.call('ZREM', P .. 'past', job.id)
    count('past_counts', number, state, queue, -1)
    count('counts', number, job.state, job.queue, 1)
    enter(number, job, job.key, now)
    if waits_to_run(job.state) then leave_line(number, job.queue) end
    wait_for(number, job.waits)
    redis.call('HSET', P .. 'arriving', number, fresh .. ' ' .. job.id)
    redis.call('INCR', P .. 'arrivals')
    if has_ended(job.state) then depart(number, job.id, fresh) end
    return {'accepted', fresh}
end

for i = 2, #ARGV, 5 do
    answers[#answers + 1] = arrive(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], cmsgpack.unpack(ARGV[i + 4]))
end
return answers
