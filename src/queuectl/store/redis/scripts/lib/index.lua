-- uses: ready, sets, state
--
-- The indexes that depend on a job's state. The caller changes the counts.

-- Remove a job from these indexes. `key` is its unique key, if it has one.
local function unindex(number, state, queue, key)
    remove_from('state:' .. state, number)
    if has_ended(state) then
        remove_from('ended:' .. state, number)
        return
    end
    if key and redis.call('HGET', P .. 'keys', key) == number then redis.call('HDEL', P .. 'keys', key) end
    if state == 'processing' then
        remove_from('leased', number)
    elseif waits_to_run(state) then
        unschedule(number, queue)
    end
end

-- Enter a job into these indexes. `job` has the fields of the hash.
local function index(number, job, key, now)
    put_into('state:' .. job.state, number, number)
    put_into('updated', job.updated_at, number)
    put_into('next', job.sort_key, number)
    if has_ended(job.state) then
        if job.finished_at then put_into('ended:' .. job.state, job.finished_at, number) end
        return
    end
    if key then redis.call('HSET', P .. 'keys', key, number) end
    if job.state == 'processing' and job.lease_until then
        put_into('leased', job.lease_until, number)
    elseif waits_to_run(job.state) then
        schedule(number, job.queue, job.run_at, job.sort_key, now)
    end
end
