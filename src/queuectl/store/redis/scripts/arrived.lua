-- The archive has let a job go, so that it may stand in line; or it had another one by then, and the job goes again.
--
-- KEYS  the hash tag
-- ARGV  now or '', number, 'keep' or 'drop'
-- Answers 1, or 0 if somebody else has done so

local now, number = clock(ARGV[1]), ARGV[2]
local arriving = redis.call('HGET', P .. 'arriving', number)
if not arriving then return 0 end
redis.call('HDEL', P .. 'arriving', number)
local was = cmsgpack.unpack(arriving)
local job = redis.call('HMGET', P .. 'job:' .. number, 'version', 'state', 'queue', 'run_at', 'sort_key', 'id', 'key')
if not job[1] then return 1 end
if ARGV[3] == 'drop' and job[1] == was.version then
    leave(number, job[2], job[3], job[7])
    wait_no_more(number)
    forget(number, job[6])
    count(job[2], job[3], -1)
    count(was.state, was.queue, 1)
    redis.call('ZADD', P .. 'past', now, job[6])
elseif job[2] == 'pending' or job[2] == 'failed' then
    line_up(number, job[3], job[4], job[5], now)
    ring('work')
elseif has_ended(job[2]) then
    ended(number, job[1])
end
return 1
