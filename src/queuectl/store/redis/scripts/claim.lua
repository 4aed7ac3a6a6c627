-- Claim the first due jobs, in order of sort_key and number.
--
-- uses: clock, counts, events, history, job, memory, notify, ready, state
-- KEYS  the hash tag
-- ARGV  now or '', worker, lease in microseconds, packed queues (empty: all), '1' to write the events or '', then a new attempt id for each job wanted
-- Answers the rows of the claimed jobs, in order, and the rows of jobs that were skipped because they cannot be read
--
-- Work: at most a thousand delayed jobs become ready. Queues are looked at in the order of their first jobs, but not beyond
-- the last wanted job; paused and full queues are skipped.

local now, worker = clock(ARGV[1]), ARGV[2]
local lease_until, queues, tells, wanted = plus(now, ARGV[3]), cmsgpack.unpack(ARGV[4]), ARGV[5] == '1', #ARGV - 5
local PAGE = 50
local damaged = {}

-- Make delayed jobs ready that are due. A damaged job stays delayed until set_aside.lua holds it: if the worker dies before that, the next
-- claim finds this job again.
local function promote()
    local due = redis.call('ZRANGEBYSCORE', P .. 'delayed', '-inf', now, 'LIMIT', 0, 1000)
    if due[1] then bypass_maxmemory() end
    for _, number in ipairs(due) do
        local job = redis.call('HMGET', P .. 'job:' .. number, 'queue', 'sort_key')
        local is_ready = job[1] and is_whole_number(job[2])
        local found = not is_ready and row(number)
        if is_ready then add_ready(number, job[1], job[2]) end
        if found then damaged[#damaged + 1] = found else redis.call('ZREM', P .. 'delayed', number) end
    end
end

-- The number of jobs that may be claimed from a queue. The same rule as `domain.queue.QueueSettings.capacity`.
local function capacity(queue)
    local entry = redis.call('HGET', P .. 'shared:queues', queue)
    if not entry then return wanted end
    local ok, setting = pcall(cjson.decode, string.match(entry, '^%d+ ({.*)$') or '')
    if not ok or type(setting) ~= 'table' then return 0 end -- because a damaged entry may have been a pause or a limit
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

-- Merge the first jobs of a queue into the jobs found so far, and keep only as many as are wanted.
local function look(queue, found)
    local free = capacity(queue)
    if free == 0 then return end
    local ready = redis.call('ZRANGE', P .. 'ready:' .. queue, 0, free - 1, 'WITHSCORES')
    for i = 1, #ready, 2 do
        found[#found + 1] = {number = ready[i], at = tonumber(ready[i + 1]), queue = queue}
    end
    if not ready[1] then update_head(queue) end
    table.sort(found, is_before)
    while #found > wanted do table.remove(found) end
end

local function of_named_queues()
    local found, seen = {}, {}
    for _, queue in ipairs(queues) do
        if not seen[queue] then look(queue, found) end
        seen[queue] = true
    end
    return found
end

local function of_all_queues()
    local found, start = {}, 0
    while true do
        local heads = redis.call('ZRANGE', P .. 'lines', start, start + PAGE - 1, 'WITHSCORES')
        for i = 1, #heads, 2 do
            local head = {number = string.sub(heads[i], 1, 16), at = tonumber(heads[i + 1])}
            if #found >= wanted and not is_before(head, found[wanted]) then return found end
            look(string.sub(heads[i], 18), found)
        end
        if #heads < 2 * PAGE then return found end
        start = start + PAGE
    end
end

-- The state of a ready job, or nothing if the job is damaged, or if a manual change left its entry in the index.
local function state_of(head)
    local job = row(head.number)
    if not job then return nil end
    if not is_readable(job) then
        damaged[#damaged + 1] = job
        return nil
    end
    return job[5] == head.queue and waits_to_run(job[4]) and job[4]
end

-- The event of a claimed job. Most specs have no batch, and are not decoded.
local function start_of(job, before)
    local has_batch = job[15] and string.find(job[15], '"batch":', 1, true)
    local ok, spec = pcall(cjson.decode, has_batch and job[15] or '{}')
    return cjson.encode({event = 'job.started', job = job[1], queue = job[5], batch = ok and spec.batch or nil,
        state = job[4], before = before, attempt = tonumber(job[9]), attempt_id = job[10], worker = job[11]})
end

local function take(head, token)
    local name, state = P .. 'job:' .. head.number, state_of(head)
    redis.call('ZREM', P .. 'ready:' .. head.queue, head.number)
    if not state then return nil end
    count(state, head.queue, -1)
    count('processing', head.queue, 1)
    redis.call('ZREM', P .. 'state:' .. state, head.number)
    redis.call('ZADD', P .. 'state:processing', head.number, head.number)
    redis.call('ZADD', P .. 'leased', lease_until, head.number)
    redis.call('ZADD', P .. 'updated', now, head.number)
    redis.call('HINCRBY', name, 'attempts', 1)
    redis.call('HSET', name, 'state', 'processing', 'attempt_id', token, 'worker', worker, 'claimed_at', now,
        'lease_until', lease_until, 'updated_at', now)
    next_version(head.number)
    local job = row(head.number)
    if tells then tell(head.number, start_of(job, state), now) end
    return job
end

promote()
local taken, changed, heads = {}, {}, #queues > 0 and of_named_queues() or of_all_queues()
if heads[1] then bypass_maxmemory() end
for _, head in ipairs(heads) do
    taken[#taken + 1] = take(head, ARGV[6 + #taken])
    changed[head.queue] = true
end
for queue in pairs(changed) do update_head(queue) end
if #taken < #heads then notify('work') end -- damaged jobs were skipped, so another claim may find more jobs
return {taken, damaged}
