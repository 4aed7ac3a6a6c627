-- Insert each job whose id is new and whose unique key no live job has.
--
-- uses: archive, clock, counts, erase, history, index, job, notify, state, waits, write
-- KEYS  the hash tag
-- ARGV  now or '', then a packed job each: the fields of its hash, spec, key, marks (of batch, tags and key, by which it
--       is found), waits
-- Answers 'unsure', and changes nothing, if the greatest number of the archive must be read first (raise_number.lua); otherwise
--         for each {'added', number}, {'known' | 'taken', row of the other job}, or {'past'} if the archive has its id
--
-- Work: some twenty commands for each job; the caller sends some hundreds at most. The first write needs memory: when memory
-- is full, the whole batch is refused.

local now, answers, works = clock(ARGV[1]), {}, false

-- The row of a job that an index names. An index entry without a job is ignored; only a manual change can cause it.
local function stored(number, id)
    local found = number and row(number)
    if number and not found and id then erase(number, id) end
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
    count(job.state, job.queue, 1)
    index(number, job, job.key, now)
    set_parents(number, job.waits)
    if has_ended(job.state) then send_to_archive(number, job.id, job.version) end
    works = works or job.state == 'pending'
    return {'added', number}
end

check_replication_history()
if redis.call('EXISTS', P .. 'unsure') == 1 then return 'unsure' end
for i = 2, #ARGV do
    answers[i - 1] = add(cmsgpack.unpack(ARGV[i]))
end
if works then notify('work') end
return answers
