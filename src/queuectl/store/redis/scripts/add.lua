-- Insert each job whose id is absent and whose unique key nobody holds who has not ended.
--
-- KEYS  the hash tag
-- ARGV  now or '', then a packed job each: the fields of its hash, spec, key, marks (of batch, tags and key, by which it
--       is found), waits
-- Answers 'unsure' if it is to be asked first which numbers the archive has (raise_number.lua), and nothing is done; else for
--         each {'added', number}, {'known' | 'taken', row of the other job}, or {'past'} if its id is in the
--         archive
--
-- Work: some twenty commands for each job; the caller sends some hundreds at most. The first write wants memory: so when
-- there is none, all of it is refused.

local now, answers, works = clock(ARGV[1]), {}, false

-- An id or a key of which there is no job any more stands in nobody's way.
local function stored(number, id)
    local found = number and row(number)
    if number and not found and id then forget(number, id) end
    return found
end

local function add(job)
    local other = stored(redis.call('HGET', P .. 'ids', job.id), job.id)
    if other then return {'known', other} end
    if redis.call('ZSCORE', P .. 'past', job.id) then return {'past'} end
    local holder = job.key and not has_ended(job.state) and stored(redis.call('HGET', P .. 'keys', job.key))
    if holder then return {'taken', holder} end
    local number = string.format('%016.0f', redis.call('INCR', P .. 'number'))
    create(number, job)
    write(number, job)
    count('counts', number, job.state, job.queue, 1)
    enter(number, job, job.key, now)
    wait_for(number, job.waits)
    if has_ended(job.state) then depart(number, job.id, job.version) end
    works = works or job.state == 'pending'
    return {'added', number}
end

make_sure()
if redis.call('EXISTS', P .. 'unsure') == 1 then return 'unsure' end
for i = 2, #ARGV do
    answers[i - 1] = add(cmsgpack.unpack(ARGV[i]))
end
if works then ring('work') end
return answers
