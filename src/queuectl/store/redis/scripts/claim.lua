-- Take the first due jobs, in order of sort_key and number.
--
-- KEYS  the hash tag
-- ARGV  now or '', worker, lease in microseconds, packed queues (empty: all), then a fresh attempt id for each job wanted
-- Answers the rows of what was taken, in order, and those of what was passed over because it is no whole job
--
-- Work: at most a thousand delayed jobs are brought into their lines. Lines are looked at in the order of their first
-- jobs, and no further than to where the last job wanted can be; those that are paused or full are passed over.

local now, worker = clock(ARGV[1]), ARGV[2]
local until_, queues, wanted = plus(now, ARGV[3]), cmsgpack.unpack(ARGV[4]), #ARGV - 4
local PAGE = 50
local damaged = {}

-- A damaged job stays among the delayed ones until it is set aside (aside.lua): a worker that dies before that loses none.
local function promote()
    local due = redis.call('ZRANGEBYSCORE', P .. 'delayed', '-inf', now, 'LIMIT', 0, 1000)
    if due[1] then go_through() end
    for _, number in ipairs(due) do
        local job = redis.call('HMGET', P .. 'job:' .. number, 'queue', 'sort_key')
        local joins = job[1] and is_whole_number(job[2])
        local found = not joins and row(number)
        if joins then join_line(number, job[1], job[2]) end
        if found then damaged[#damaged + 1] = found else redis.call('ZREM', P .. 'delayed', number) end
    end
end

-- As `domain.queue.QueueSettings.capacity` says.
local function room(queue)
    local entry = redis.call('HGET', P .. 'shared:queues', queue)
    if not entry then return wanted end
    local well, setting = pcall(cjson.decode, string.match(entry, '^%d+ ({.*)$') or '')
    if not well or type(setting) ~= 'table' then return 0 end -- it may have been a pause or a limit
    local paused, limit = setting.paused or false, setting.limit
    if paused ~= false and paused ~= cjson.null then return 0 end
    if limit == nil or limit == cjson.null then return wanted end
    if type(limit) ~= 'number' or limit % 1 ~= 0 then return 0 end
    local processing = tonumber(redis.call('HGET', P .. 'counts', 'processing ' .. queue) or '0')
    return math.max(0, math.min(wanted, setting.limit - processing))
end

local function is_before(a, b)
    return a.at < b.at or a.at == b.at and a.number < b.number
end

-- The first of a line, among those found so far: of these no more are kept than are wanted.
local function look(queue, found)
    local free = room(queue)
    if free == 0 then return end
    local line = redis.call('ZRANGE', P .. 'ready:' .. queue, 0, free - 1, 'WITHSCORES')
    for i = 1, #line, 2 do
        found[#found + 1] = {number = line[i], at = tonumber(line[i + 1]), queue = queue}
    end
    if not line[1] then move_up(queue) end
    table.sort(found, is_before)
    while #found > wanted do table.remove(found) end
end

local function of_named()
    local found, seen = {}, {}
    for _, queue in ipairs(queues) do
        if not seen[queue] then look(queue, found) end
        seen[queue] = true
    end
    return found
end

local function of_all()
    local found, start = {}, 0
    while true do
        local lines = redis.call('ZRANGE', P .. 'lines', start, start + PAGE - 1, 'WITHSCORES')
        for i = 1, #lines, 2 do
            local head = {number = string.sub(lines[i], 1, 16), at = tonumber(lines[i + 1])}
            if #found >= wanted and not is_before(head, found[wanted]) then return found end
            look(string.sub(lines[i], 18), found)
        end
        if #lines < 2 * PAGE then return found end
        start = start + PAGE
    end
end

-- The state of a job that waits in a line; nothing for what is none, left there by a hand, or is damaged.
local function state_of(head)
    local job = row(head.number)
    if job and not is_whole(job) then damaged[#damaged + 1] = job end
    return job and is_whole(job) and job[5] == head.queue and waits_to_run(job[4]) and job[4]
end

local function take(head, token)
    local name, state = P .. 'job:' .. head.number, state_of(head)
    redis.call('ZREM', P .. 'ready:' .. head.queue, head.number)
    if not state then return nil end
    count('counts', head.number, state, head.queue, -1)
    count('counts', head.number, 'processing', head.queue, 1)
    redis.call('ZREM', P .. 'state:' .. state, head.number)
    redis.call('ZADD', P .. 'state:processing', head.number, head.number)
    redis.call('ZADD', P .. 'leased', until_, head.number)
    redis.call('ZADD', P .. 'updated', now, head.number)
    redis.call('HINCRBY', name, 'attempts', 1)
    redis.call('HSET', name, 'state', 'processing', 'attempt_id', token, 'worker', worker, 'claimed_at', now,
        'lease_until', until_, 'updated_at', now)
    next_version(head.number)
    return row(head.number)
end

promote()
local taken, touched, heads = {}, {}, #queues > 0 and of_named() or of_all()
if heads[1] then go_through() end
for _, head in ipairs(heads) do
    taken[#taken + 1] = take(head, ARGV[5 + #taken])
    touched[head.queue] = true
end
for queue in pairs(touched) do move_up(queue) end
if #taken < #heads then ring('work') end -- somebody stood in front of others
return {taken, damaged}
