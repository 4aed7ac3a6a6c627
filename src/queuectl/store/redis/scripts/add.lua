-- Insert each job whose id is new and whose unique key no live job has.
--
-- uses: add, clock, history, notify
-- KEYS  the hash tag
-- ARGV  now or '', then a packed job each: the fields of its hash, spec, key, marks (of batch, tags and key, by which it
--       is found), waits, event (as a line)
-- Answers 'unsure', and changes nothing, if the greatest number of the archive must be read first (raise_number.lua); otherwise
--         for each {'added', number}, {'known' | 'taken', row of the other job}, or {'past'} if the archive has its id
--
-- Work: some twenty commands for each job; the caller sends some hundreds at most. The first write needs memory: when memory
-- is full, the whole batch is refused.

local now, answers, works = clock(ARGV[1]), {}, false

check_replication_history()
if redis.call('EXISTS', P .. 'unsure') == 1 then return 'unsure' end
for i = 2, #ARGV do
    local job = cmsgpack.unpack(ARGV[i])
    answers[i - 1] = add_job(job, now)
    works = works or (answers[i - 1][1] == 'added' and job.state == 'pending')
end
if works then notify('work') end
return answers
