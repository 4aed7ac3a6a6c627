-- uses: waits
--
-- Removes jobs.

-- Remove all data of a job that was already removed from the indexes of its state. The caller changes the counts.
local function erase(number, id)
    local marks = redis.call('HGET', P .. 'job:' .. number, 'marks')
    if id and redis.call('HGET', P .. 'ids', id) == number then
        redis.call('HDEL', P .. 'ids', id)
        redis.call('ZREM', P .. 'names', id)
    end
    set_parents(number, nil)
    for _, name in ipairs({'created', 'updated', 'next'}) do redis.call('ZREM', P .. name, number) end
    for _, mark in ipairs(unpacked(marks)) do redis.call('ZREM', P .. 'by:' .. mark, number) end
    for _, attempt in ipairs(redis.call('SMEMBERS', P .. 'outputs:' .. number)) do
        redis.call('UNLINK', P .. 'output:' .. attempt)
    end
    redis.call('UNLINK', P .. 'outputs:' .. number, P .. 'job:' .. number)
end
