-- The archive has let jobs go, so that they may stand in line.
--
-- KEYS  the hash tag
-- ARGV  now or '', then number and the note that was made of each
--
-- Of which there is no such note any more, somebody else has let into the line.

local now, works = clock(ARGV[1]), false
go_through()
for i = 2, #ARGV, 2 do
    local number = ARGV[i]
    if redis.call('HGET', P .. 'arriving', number) == ARGV[i + 1] then
        redis.call('HDEL', P .. 'arriving', number)
        local job = redis.call('HMGET', P .. 'job:' .. number, 'state', 'queue', 'run_at', 'sort_key')
        if job[1] and waits_to_run(job[1]) then
            line_up(number, job[2], job[3], job[4], now)
            works = true
        end
    end
end
if works then ring('work') end
