-- Insert a job whose id is new and whose unique key no live job has.
--
-- uses: archive, counts, erase, events, index, job, state, waits, write
--
-- add_job(job, now)  answers {'added', number}, {'known' | 'taken', row of the other job}, or {'past'} if the archive has
--                    its id. `job` is unpacked: the fields of its hash, spec, key, marks, waits,
--                    and `event`: its event as a line, or nothing

-- The row of a job that an index names. An index entry without a job is ignored; only a manual change can cause it.
local function stored(number, id)
    local found = number and row(number)
    if number and not found and id then erase(number, id) end
    return found
end

-- The next number, or the number that a job brings if it is higher than all assigned ones.
local function next_number(brought)
    local number = redis.call('INCR', P .. 'number')
    if brought > number then
        redis.call('SET', P .. 'number', string.format('%.0f', brought))
        number = brought
    end
    return string.format('%016.0f', number)
end

local function add_job(job, now)
    local other = stored(redis.call('HGET', P .. 'ids', job.id), job.id)
    if other then return {'known', other} end
    if redis.call('ZSCORE', P .. 'past', job.id) then return {'past'} end
    local holder = job.key and not has_ended(job.state) and stored(redis.call('HGET', P .. 'keys', job.key))
    if holder then return {'taken', holder} end
    local number = next_number(tonumber(job.number or 0))
    create(number, job)
    write(number, job)
    count(job.state, job.queue, 1)
    index(number, job, job.key, now)
    set_parents(number, job.waits)
    if has_ended(job.state) then send_to_archive(number, job.id, job.version) end
    if job.event then tell(number, job.event, now) end
    return {'added', number}
end
