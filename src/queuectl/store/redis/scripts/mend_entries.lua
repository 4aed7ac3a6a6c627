-- Take out of an index what is no job, or a job that does not belong there.
--
-- KEYS  the hash tag
-- ARGV  '1' to mend or '0' to count only, the index, then members of it; the caller sends some hundreds
-- Answers how many of them did not belong there

local mends, index, wrong = ARGV[1] == '1', ARGV[2], 0
local kind, name = string.match(index, '^(%a+):?(.*)$')

local function state_is(number, ...)
    local state = row(number) and redis.call('HGET', P .. 'job:' .. number, 'state')
    for _, wanted in ipairs({...}) do
        if state == wanted then return true end
    end
    return false
end

local function has(number, field, wanted)
    for _, value in ipairs(unpacked(redis.call('HGET', P .. 'job:' .. number, field))) do
        if value == wanted then return true end
    end
    return false
end

local function is_job(number)
    return row(number)
end

local function waits(number)
    return whole_row(number) and state_is(number, 'pending', 'failed')
end

local function is_head(queue, head, score)
    local first = redis.call('ZRANGE', P .. 'ready:' .. queue, 0, 0, 'WITHSCORES')
    return first[1] and head == first[1] .. ' ' .. queue and score and tonumber(score) == tonumber(first[2])
end

-- For each kind of index, whether a member belongs there.
local BELONGS = {
    created = is_job,
    updated = is_job,
    next = is_job,
    arriving = is_job,
    outputs = function(attempt) return is_job(name) and redis.call('EXISTS', P .. 'output:' .. attempt) == 1 end,
    delayed = waits,
    leased = function(number) return state_is(number, 'processing') end,
    state = function(number) return state_is(number, name) end,
    ended = function(number) return state_is(number, name) end,
    ready = function(number) return waits(number) and redis.call('HGET', P .. 'job:' .. number, 'queue') == name end,
    by = function(number) return is_job(number) and has(number, 'marks', name) end,
    waits = function(number) return is_job(number) and has(number, 'waits', name) end,
    names = function(id) return redis.call('HEXISTS', P .. 'ids', id) == 1 end,
    ids = function(id)
        local number = redis.call('HGET', P .. 'ids', id)
        return not number or redis.call('HGET', P .. 'job:' .. number, 'id') == id
    end,
    keys = function(key)
        local number = redis.call('HGET', P .. 'keys', key)
        local job = number and redis.call('HMGET', P .. 'job:' .. number, 'key', 'state')
        return not number or job[1] == key and job[2] and not has_ended(job[2])
    end,
    lines = function(head)
        local queue, score = string.sub(head, 18), redis.call('ZSCORE', P .. 'lines', head)
        return not score or redis.call('HGET', P .. 'heads', queue) == head and is_head(queue, head, score)
    end,
    heads = function(queue)
        local head = redis.call('HGET', P .. 'heads', queue)
        return not head or is_head(queue, head, redis.call('ZSCORE', P .. 'lines', head))
    end,
    -- Members are chunks: whose they are stands in the first of them.
    output = function(chunk)
        local id = string.match(chunk, '^%d+ (%S+) ')
        local number = id and redis.call('HGET', P .. 'ids', id)
        return number and redis.call('SISMEMBER', P .. 'outputs:' .. number, name) == 1
    end,
}

-- What a job has printed is given back to it, if it is still there.
local function give_back(chunk)
    local id = string.match(chunk, '^%d+ (%S+) ')
    local number = id and redis.call('HGET', P .. 'ids', id)
    if number then return redis.call('SADD', P .. 'outputs:' .. number, name) end
    redis.call('UNLINK', P .. index)
end

local OUT = {zset = 'ZREM', hash = 'HDEL', set = 'SREM'}
local function take_out(member)
    if kind == 'output' then return give_back(member) end
    if kind == 'outputs' then redis.call('UNLINK', P .. 'output:' .. member) end
    if kind == 'heads' then return move_up(member) end
    redis.call(OUT[redis.call('TYPE', P .. index).ok], P .. index, member)
    if kind == 'ready' then move_up(name) end
    if kind == 'lines' then move_up(string.sub(member, 18)) end
end

-- It was read a moment ago, and may have gone since.
local LOOK = {zset = 'ZSCORE', hash = 'HEXISTS', set = 'SISMEMBER'}
local function is_still_there(member)
    local look = LOOK[redis.call('TYPE', P .. index).ok]
    local found = look and redis.call(look, P .. index, member)
    return found and found ~= 0
end

if mends then go_through() end
for i = 3, #ARGV do
    if BELONGS[kind] and is_still_there(ARGV[i]) and not BELONGS[kind](ARGV[i]) then
        wrong = wrong + 1
        if mends then take_out(ARGV[i]) end
    end
end
return wrong
