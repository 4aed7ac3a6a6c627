-- Set jobs aside that cannot be decoded: they become held, so that no claim finds them again. Their other fields do not change.
--
-- uses: counts, history, job, memory, ready, state
-- KEYS  the hash tag
-- ARGV  their numbers

bypass_maxmemory()
for _, number in ipairs(ARGV) do
    local name = P .. 'job:' .. number
    local job = redis.call('HMGET', name, 'state', 'queue', 'version')
    local state, queue = job[1], job[2]
    redis.call('ZREM', P .. 'delayed', number)
    redis.call('ZREM', P .. 'leased', number)
    if queue then unschedule(number, queue) end
    if state and (waits_to_run(state) or state == 'processing') then
        redis.call('ZREM', P .. 'state:' .. state, number)
        redis.call('ZADD', P .. 'state:held', number, number)
        if queue then
            count(state, queue, -1)
            count('held', queue, 1)
        end
        redis.call('HSET', name, 'state', 'held')
        redis.call('HDEL', name, 'attempt_id', 'worker', 'claimed_at', 'lease_until')
        if is_whole_number(job[3]) then next_version(number) end
    end
end
