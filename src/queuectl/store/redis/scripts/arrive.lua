-- A job comes back from the archive, changed. It is here from now on, but in no line before the archive has let it go.
--
-- KEYS  the hash tag
-- ARGV  now or '', number, state and queue that it had, the packed job with the version that it has now
-- Answers 'accepted', 'stale' (it is here already, or on its way out for good) or 'taken' (its unique key is)

local now, number, job = clock(ARGV[1]), ARGV[2], cmsgpack.unpack(ARGV[5])
if redis.call('EXISTS', P .. 'job:' .. number) == 1 or redis.call('HEXISTS', P .. 'ids', job.id) == 1
    or redis.call('HEXISTS', P .. 'leaving', number) == 1 then return 'stale' end
if job.key and not has_ended(job.state) and redis.call('HEXISTS', P .. 'keys', job.key) == 1 then return 'taken' end
create(number, job)
write(number, job)
count(ARGV[3], ARGV[4], -1)
count(job.state, job.queue, 1)
enter(number, job, job.key, now)
if job.state == 'pending' or job.state == 'failed' then
    leave_line(number, job.queue)
    redis.call('ZREM', P .. 'delayed', number)
end
wait_for(number, job.waits)
redis.call('ZREM', P .. 'past', job.id)
redis.call('HSET', P .. 'arriving', number, cmsgpack.pack({version = job.version, state = ARGV[3], queue = ARGV[4]}))
return 'accepted'
