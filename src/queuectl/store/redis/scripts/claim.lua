-- Take the first due jobs, in order of sort_key and number.
--
-- KEYS  the hash tag
-- ARGV  now or '', worker, lease in microseconds, packed queues (empty: all), then a fresh attempt id for each job wanted
-- Answers the rows of what was taken, in order
--
-- Work: at most a thousand delayed jobs are brought into their lines; of each line no more is read than is wanted.

local now, worker, until_ = clock(ARGV[1]), ARGV[2], plus(clock(ARGV[1]), ARGV[3])
local queues, wanted = cmsgpack.unpack(ARGV[4]), #ARGV - 4

local function promote()
    local due = redis.call('ZRANGEBYSCORE', P .. 'delayed', '-inf', now, 'LIMIT', 0, 1000)
    for _, number in ipairs(due) do
        local job = redis.call('HMGET', P .. 'job:' .. number, 'queue', 'sort_key')
        join_line(number, job[1], job[2])
        redis.call('ZREM', P .. 'delayed', number)
    end
end

-- As `domain.queue.room` says.
local function room(queue)
    local entry = redis.call('HGET', P .. 'shared:queues', queue)
    if not entry then return wanted end
    local setting = cjson.decode(string.sub(entry, string.find(entry, ' ') + 1))
    if setting.paused == true then return 0 end
    if type(setting.limit) ~= 'number' then return wanted end
    local processing = tonumber(redis.call('HGET', P .. 'counts', 'processing ' .. queue) or '0')
    return math.max(0, math.min(wanted, setting.limit - processing))
end

local function heads()
    local found, seen = {}, {}
    for _, queue in ipairs(#queues > 0 and queues or redis.call('SMEMBERS', P .. 'lines')) do
        local free = not seen[queue] and room(queue) or 0
        seen[queue] = true
        if free > 0 then
            local line = redis.call('ZRANGE', P .. 'ready:' .. queue, 0, free - 1, 'WITHSCORES')
            for i = 1, #line, 2 do
                found[#found + 1] = {number = line[i], at = tonumber(line[i + 1]), queue = queue}
            end
        end
    end
    table.sort(found, function(a, b) return a.at < b.at or a.at == b.at and a.number < b.number end)
    return found
end

local function take(head, token)
    local name = P .. 'job:' .. head.number
    local state = redis.call('HGET', name, 'state')
    leave_line(head.number, head.queue)
    count(state, head.queue, -1)
    count('processing', head.queue, 1)
    redis.call('ZREM', P .. 'state:' .. state, head.number)
    redis.call('ZADD', P .. 'state:processing', head.number, head.number)
    redis.call('ZADD', P .. 'leased', until_, head.number)
    redis.call('ZADD', P .. 'updated', now, head.number)
    redis.call('HINCRBY', name, 'version', 1)
    redis.call('HINCRBY', name, 'attempts', 1)
    redis.call('HSET', name, 'state', 'processing', 'attempt_id', token, 'worker', worker, 'claimed_at', now,
        'lease_until', until_, 'updated_at', now)
    return row(head.number)
end

promote()
local taken = {}
for i, head in ipairs(heads()) do
    if i > wanted then break end
    taken[i] = take(head, ARGV[4 + i])
end
return taken
