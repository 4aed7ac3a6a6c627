-- archived → restoring: bring jobs back from the archive, changed. After this script they are in Redis, but a job that may run is not
-- ready until the archive has deleted its copy (restore_done.lua).
--
-- uses: archive, archived_counts, clock, counts, events, history, index, ready, state, waits, write
-- KEYS  the hash tag
-- ARGV  now or '', then the old number, version, state and queue of each, and the packed job, with `event` as a line; the caller sends some
--       hundreds
-- Answers for each {'accepted', its version}, {'stale'} (it is in Redis, was deleted or archived again) or {'taken'} (another
--         job has its unique key)
--
-- The first write needs memory: when memory is full, the whole batch is refused.

local now, answers = clock(ARGV[1]), {}

local function restore(number, was, state, queue, job)
    local version = redis.call('ZSCORE', P .. 'past', job.id)
    if not version or tonumber(version) > tonumber(was) then return {'stale'} end
    if redis.call('HEXISTS', P .. 'ids', job.id) == 1 or redis.call('EXISTS', P .. 'job:' .. number) == 1 then
        return {'stale'}
    end
    if job.key and not has_ended(job.state) and redis.call('HEXISTS', P .. 'keys', job.key) == 1 then return {'taken'} end
    create(number, job)
    write(number, job)
    local new_version = next_version(number)
    redis.call('ZREM', P .. 'past', job.id)
    count_archived(number, state, queue, -1)
    count(job.state, job.queue, 1)
    index(number, job, job.key, now)
    if waits_to_run(job.state) then unschedule(number, job.queue) end
    set_parents(number, job.waits)
    redis.call('HSET', P .. 'arriving', number, new_version .. ' ' .. job.id)
    redis.call('INCR', P .. 'arrivals')
    if has_ended(job.state) then send_to_archive(number, job.id, new_version) end
    if job.event then tell(number, job.event, now) end
    return {'accepted', new_version}
end

for i = 2, #ARGV, 5 do
    answers[#answers + 1] = restore(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], cmsgpack.unpack(ARGV[i + 4]))
end
return answers
