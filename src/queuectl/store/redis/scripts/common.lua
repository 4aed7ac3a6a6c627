-- What every script begins with.
--
-- KEYS[1] is the hash tag, such as {queuectl}: every key of the queue begins with it, so all of them are in one slot of a
-- cluster. Numbers are kept and passed as decimal text: Lua's own would lose digits when they are written.

local P = KEYS[1] .. ':'

-- The fields of job:<number> in the order in which a row has them; the spec and the number follow.
local FIELDS = {'id', 'created_at', 'version', 'state', 'queue', 'run_at', 'sort_key', 'updated_at', 'attempts',
                'attempt_id', 'worker', 'claimed_at', 'lease_until', 'rest'}

-- The server's time in microseconds; `given` stands for it in tests.
local function clock(given)
    if given ~= '' then return given end
    local time = redis.call('TIME')
    return time[1] .. string.format('%06d', tonumber(time[2]))
end

local function plus(a, b)
    return string.format('%.0f', tonumber(a) + tonumber(b))
end

local function row(number)
    local found = redis.call('HMGET', P .. 'job:' .. number, unpack(FIELDS))
    if not found[1] then return nil end
    found[#FIELDS + 1] = redis.call('GET', P .. 'spec:' .. number)
    found[#FIELDS + 2] = number
    return found
end

local function rows(numbers)
    local found = {}
    for _, number in ipairs(numbers) do
        found[#found + 1] = row(number)
    end
    return found
end

local function has_ended(state)
    return state == 'completed' or state == 'dead' or state == 'cancelled'
end

-- Tell those who wait, at most once in 50 ms.
local function ring(bell)
    if redis.call('SET', P .. 'rang:' .. bell, '1', 'PX', 50, 'NX') then
        redis.call('HINCRBY', P .. 'bells', bell, 1)
        redis.call('PUBLISH', P .. 'bells', bell)
    end
end

local function count(state, queue, by)
    local standing = state .. ' ' .. queue
    if redis.call('HINCRBY', P .. 'counts', standing, by) == 0 then
        redis.call('HDEL', P .. 'counts', standing)
    end
end

local function join_line(number, queue, sort_key)
    redis.call('ZADD', P .. 'ready:' .. queue, sort_key, number)
    redis.call('SADD', P .. 'lines', queue)
end

local function leave_line(number, queue)
    if redis.call('ZREM', P .. 'ready:' .. queue, number) == 1 and redis.call('EXISTS', P .. 'ready:' .. queue) == 0 then
        redis.call('SREM', P .. 'lines', queue)
    end
end

-- Out of every index that follows from its state.
local function leave(number, state, queue, key)
    redis.call('ZREM', P .. 'state:' .. state, number)
    if has_ended(state) then
        redis.call('ZREM', P .. 'ended', number)
        return
    end
    if key then redis.call('HDEL', P .. 'keys', key) end
    if state == 'processing' then
        redis.call('ZREM', P .. 'leased', number)
    elseif state == 'pending' or state == 'failed' then
        leave_line(number, queue)
        redis.call('ZREM', P .. 'delayed', number)
    end
end

-- Where a job that waits is waited for: its line, or the delayed ones.
local function line_up(number, queue, run_at, sort_key, now)
    if tonumber(run_at) <= tonumber(now) then
        join_line(number, queue, sort_key)
    else
        redis.call('ZADD', P .. 'delayed', run_at, number)
    end
end

-- Into every index that follows from its state. `job` has the fields of the hash, and `finished_at`.
local function enter(number, job, key, now)
    redis.call('ZADD', P .. 'state:' .. job.state, number, number)
    redis.call('ZADD', P .. 'updated', job.updated_at, number)
    redis.call('ZADD', P .. 'next', job.sort_key, number)
    if has_ended(job.state) then
        if job.finished_at then redis.call('ZADD', P .. 'ended', job.finished_at, number) end
        return
    end
    if key then redis.call('HSET', P .. 'keys', key, number) end
    if job.lease_until and job.state == 'processing' then
        redis.call('ZADD', P .. 'leased', job.lease_until, number)
    elseif job.state == 'pending' or job.state == 'failed' then
        line_up(number, job.queue, job.run_at, job.sort_key, now)
    end
end

-- To the archive, where there is one: from the stream whoever moves jobs there takes them.
local archives = redis.call('EXISTS', P .. 'archiving') == 1
local function ended(number, version)
    if archives then redis.call('XADD', P .. 'stream', '*', 'number', number, 'version', version) end
end

-- A new job's own keys, once it has a number.
local function create(number, job)
    redis.call('SET', P .. 'spec:' .. number, job.spec)
    redis.call('HSET', P .. 'job:' .. number, 'id', job.id, 'created_at', job.created_at, 'version', job.version)
    if job.key then redis.call('HSET', P .. 'job:' .. number, 'key', job.key) end
    redis.call('HSET', P .. 'ids', job.id, number)
    redis.call('ZADD', P .. 'names', 0, job.id)
    redis.call('ZADD', P .. 'created', number, number)
    for _, mark in ipairs(job.marks or {}) do
        redis.call('ZADD', P .. 'by:' .. mark, number, number)
    end
    if job.marks then redis.call('HSET', P .. 'job:' .. number, 'marks', cmsgpack.pack(job.marks)) end
end

-- What changes of a job, into its hash: what has no value is absent.
local CHANGING = {'state', 'queue', 'run_at', 'sort_key', 'updated_at', 'attempts', 'attempt_id', 'worker',
                  'claimed_at', 'lease_until', 'rest'}
local function write(number, job)
    local fields, gone = {}, {}
    for _, name in ipairs(CHANGING) do
        if job[name] then
            fields[#fields + 1] = name
            fields[#fields + 1] = job[name]
        else
            gone[#gone + 1] = name
        end
    end
    redis.call('HSET', P .. 'job:' .. number, unpack(fields))
    if #gone > 0 then redis.call('HDEL', P .. 'job:' .. number, unpack(gone)) end
end

local function wait_for(number, parents)
    if not parents then return end
    redis.call('HSET', P .. 'job:' .. number, 'waits', cmsgpack.pack(parents))
    for _, parent in ipairs(parents) do
        redis.call('SADD', P .. 'waits:' .. parent, number)
    end
end

local function wait_no_more(number)
    local waiting = redis.call('HGET', P .. 'job:' .. number, 'waits')
    if waiting then
        for _, parent in ipairs(cmsgpack.unpack(waiting)) do
            redis.call('SREM', P .. 'waits:' .. parent, number)
        end
        redis.call('HDEL', P .. 'job:' .. number, 'waits')
    end
end

-- Every trace of a job that has left the indexes of its state. The counters are the caller's.
local function forget(number, id)
    local marks = redis.call('HGET', P .. 'job:' .. number, 'marks')
    redis.call('HDEL', P .. 'ids', id)
    redis.call('ZREM', P .. 'names', id)
    for _, index in ipairs({'created', 'updated', 'next'}) do redis.call('ZREM', P .. index, number) end
    for _, mark in ipairs(marks and cmsgpack.unpack(marks) or {}) do redis.call('ZREM', P .. 'by:' .. mark, number) end
    for _, attempt in ipairs(redis.call('SMEMBERS', P .. 'outputs:' .. number)) do
        redis.call('UNLINK', P .. 'output:' .. attempt)
    end
    redis.call('UNLINK', P .. 'outputs:' .. number, P .. 'spec:' .. number, P .. 'job:' .. number)
end
