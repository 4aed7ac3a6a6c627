-- Insert each job whose id is absent and whose unique key nobody holds who has not ended.
--
-- KEYS  the hash tag
-- ARGV  now or '', then a packed job each: the fields of its hash, finished_at, spec, key, marks (of batch, tags and key,
--       by which it is found), waits
-- Answers for each {'added', number}, {'known' | 'taken', row of the other job}, or {'past'} if its id is in the archive
--
-- Work: some twenty commands for each job; the caller sends at most a thousand.

local now, answers, works = clock(ARGV[1]), {}, false

local function add(job)
    local other = redis.call('HGET', P .. 'ids', job.id)
    if other then return {'known', row(other)} end
    if redis.call('ZSCORE', P .. 'past', job.id) then return {'past'} end
    local holder = job.key and not has_ended(job.state) and redis.call('HGET', P .. 'keys', job.key)
    if holder then return {'taken', row(holder)} end
    local number = string.format('%016d', redis.call('INCR', P .. 'number'))
    create(number, job)
    write(number, job)
    count(job.state, job.queue, 1)
    enter(number, job, job.key, now)
    wait_for(number, job.waits)
    if has_ended(job.state) then ended(number, job.version) end
    works = works or job.state == 'pending'
    return {'added', number}
end

for i = 2, #ARGV do
    answers[i - 1] = add(cmsgpack.unpack(ARGV[i]))
end
if works then ring('work') end
return answers
