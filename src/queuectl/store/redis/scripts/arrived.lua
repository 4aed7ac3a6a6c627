-- The archive has let a job go, so that it may stand in line.
--
-- KEYS  the hash tag
-- ARGV  now or '', number, the note that was made of it
-- Answers 1, or 0 if somebody else has done so

local now, number = clock(ARGV[1]), ARGV[2]
if redis.call('HGET', P .. 'arriving', number) ~= ARGV[3] then return 0 end
go_through()
redis.call('HDEL', P .. 'arriving', number)
local job = redis.call('HMGET', P .. 'job:' .. number, 'state', 'queue', 'run_at', 'sort_key')
if job[1] and waits_to_run(job[1]) then
    line_up(number, job[2], job[3], job[4], now)
    ring('work')
end
return 1
