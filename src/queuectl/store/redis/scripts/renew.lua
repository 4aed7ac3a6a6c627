-- Begin the leases of these attempts again, where they are still held by this worker.
--
-- KEYS  the hash tag
-- ARGV  now or '', worker, lease in microseconds, then id and attempt id of each
-- Answers the rows of those that are still ours

local now, renewed = clock(ARGV[1]), {}
local until_ = plus(now, ARGV[3])
go_through()
for i = 4, #ARGV, 2 do
    local number = redis.call('HGET', P .. 'ids', ARGV[i])
    local held = number and redis.call('HMGET', P .. 'job:' .. number, 'state', 'attempt_id', 'worker', 'version')
    local ours = held and held[1] == 'processing' and held[2] == ARGV[i + 1] and held[3] == ARGV[2]
    if ours and is_whole_number(held[4]) then
        next_version(number)
        redis.call('HSET', P .. 'job:' .. number, 'lease_until', until_, 'updated_at', now)
        redis.call('ZADD', P .. 'leased', until_, number)
        redis.call('ZADD', P .. 'updated', now, number)
        renewed[#renewed + 1] = row(number)
    end
end
return renewed
