-- Hand jobs out no more that cannot be decoded: they are held from now on; everything else of them stays as it was.
--
-- KEYS  the hash tag
-- ARGV  their numbers

go_through()
for _, number in ipairs(ARGV) do
    local name = P .. 'job:' .. number
    local job = redis.call('HMGET', name, 'state', 'queue', 'version')
    local state, queue = job[1], job[2]
    redis.call('ZREM', P .. 'delayed', number)
    redis.call('ZREM', P .. 'leased', number)
    if queue then leave_line(number, queue) end
    if state and (waits_to_run(state) or state == 'processing') then
        redis.call('ZREM', P .. 'state:' .. state, number)
        redis.call('ZADD', P .. 'state:held', number, number)
        if queue then
            count('counts', number, state, queue, -1)
            count('counts', number, 'held', queue, 1)
        end
        redis.call('HSET', name, 'state', 'held')
        redis.call('HDEL', name, 'attempt_id', 'worker', 'claimed_at', 'lease_until')
        if is_whole_number(job[3]) then next_version(number) end
    end
end
