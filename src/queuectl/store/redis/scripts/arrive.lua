-- A job comes back from the archive, changed. It is here from now on, but in no line before the archive has let it go.
--
-- KEYS  the hash tag
-- ARGV  now or '', number, version, state and queue that it had, the packed job
-- Answers {'accepted', its version}, {'stale'} (it is here, deleted, or archived anew) or {'taken'} (its unique key is)

local now, number, job = clock(ARGV[1]), ARGV[2], cmsgpack.unpack(ARGV[6])
local version = redis.call('ZSCORE', P .. 'past', job.id)
if not version or tonumber(version) > tonumber(ARGV[3]) then return {'stale'} end
if redis.call('HEXISTS', P .. 'ids', job.id) == 1 or redis.call('EXISTS', P .. 'job:' .. number) == 1 then return {'stale'} end
if job.key and not has_ended(job.state) and redis.call('HEXISTS', P .. 'keys', job.key) == 1 then return {'taken'} end
create(number, job)
write(number, job)
local fresh = next_version(number)
redis.call('ZREM', P .. 'past', job.id)
count('past_counts', number, ARGV[4], ARGV[5], -1)
count('counts', number, job.state, job.queue, 1)
enter(number, job, job.key, now)
if waits_to_run(job.state) then leave_line(number, job.queue) end
wait_for(number, job.waits)
redis.call('HSET', P .. 'arriving', number, fresh .. ' ' .. job.id)
redis.call('INCR', P .. 'arrivals')
if has_ended(job.state) then depart(number, job.id, fresh) end
return {'accepted', fresh}
