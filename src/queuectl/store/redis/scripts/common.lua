-- What every script begins with.
--
-- KEYS[1] is the hash tag, such as {queuectl}: every key of the queue begins with it, so all of them are in one slot of a
-- cluster. Numbers are kept and passed as decimal text: Lua's own would lose digits when they are written. A job's number
-- has sixteen digits, so that texts are ordered as the numbers are.

local P = KEYS[1] .. ':'

-- The fields of job:<number> in the order in which a row has them; the number follows.
local FIELDS = {'id', 'created_at', 'version', 'state', 'queue', 'run_at', 'sort_key', 'updated_at', 'attempts',
                'attempt_id', 'worker', 'claimed_at', 'lease_until', 'rest', 'spec', 'cause'}
local NEEDED, NUMBERS = 9, {2, 3, 6, 7, 8, 9}

-- The server's time in microseconds; `given` stands for it in tests.
local function clock(given)
    if given ~= '' then return given end
    local time = redis.call('TIME')
    return time[1] .. string.format('%06d', tonumber(time[2]))
end

local function plus(a, b)
    return string.format('%.0f', tonumber(a) + tonumber(b))
end

-- A script whose first write needs no memory goes on when memory is full: what only moves or ends jobs has to. For who has
-- nothing to write this would be a write, and cost the log one.
local function go_through()
    redis.call('UNLINK', P .. 'nothing')
end

-- Whether a field is a whole number, to which something can be added: below 10^18, with room up to what Redis counts to.
local function is_whole_number(text)
    return text and #text < 19 and string.match(text, '^-?%d+$') ~= nil
end

-- Whether these fields, the first ones at least, are a job's. What a hand has damaged is passed over.
local function is_whole(found)
    for i = 1, NEEDED do
        if not found[i] then return false end
    end
    for _, i in ipairs(NUMBERS) do
        if not is_whole_number(found[i]) then return false end
    end
    return true
end

-- What is stored under a number, damaged or not: whoever decodes it finds out.
local function row(number)
    local found, there = redis.call('HMGET', P .. 'job:' .. number, unpack(FIELDS)), false
    for i = 1, #FIELDS do there = there or found[i] end
    if not there then return nil end
    found[#FIELDS + 1] = number
    return found
end

local function whole_row(number)
    local found = row(number)
    return found and is_whole(found) and found or nil
end

-- The texts in a packed field; none if it cannot be unpacked.
local function unpacked(text)
    local well, found = pcall(cmsgpack.unpack, text or '')
    return well and type(found) == 'table' and found or {}
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

local function waits_to_run(state)
    return state == 'pending' or state == 'failed'
end

-- Tell those who wait, at most once in 50 ms. Who may use no channel has changed something all the same: the others look.
local function ring(bell)
    if redis.call('SET', P .. 'rang:' .. bell, '1', 'PX', 50, 'NX') then
        redis.call('HINCRBY', P .. 'bells', bell, 1)
        redis.pcall('PUBLISH', P .. 'bells', bell)
    end
end

-- The server's history: which process it is, and which line of writes. With another one the server may have lost what was
-- acknowledged, and with it versions of jobs. From then on versions begin at the present moment: milliseconds since 2020,
-- with room for 4096 changes in each, below 2^53; and well above where they began before, should this server's clock be
-- behind. Where there is an archive, it may have greater numbers by now: that is to be asked before one is given (add.lua).
local function note_history(history)
    local known = redis.call('GET', P .. 'history')
    if known == history then return end
    go_through()
    redis.call('SET', P .. 'history', history)
    if not known then return end
    local time, before = redis.call('TIME'), tonumber(redis.call('GET', P .. 'base') or '0')
    local base = ((time[1] - 1577836800) * 1000 + math.floor(time[2] / 1000)) * 4096
    redis.call('SET', P .. 'base', string.format('%.0f', math.max(base, before + 2 ^ 32)))
    if redis.call('EXISTS', P .. 'archive') == 1 then redis.call('SET', P .. 'unsure', '1') end
end

-- A server may become a replica and a primary again under a connection that stands. So who gives versions or numbers looks,
-- once in a script.
local is_sure = false
local function make_sure()
    if is_sure then return end
    is_sure = true
    local known = redis.call('GET', P .. 'history')
    local writes = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
    if not known or not writes or string.sub(known, -#writes) == writes then return end
    note_history((string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or '') .. ' ' .. writes)
end

-- One version on. After the server may have lost what it had acknowledged, none lies below `base`: so no version of what
-- was lost is ever given again, and who still holds such a one is stale.
local function next_version(number)
    make_sure()
    local version = redis.call('HINCRBY', P .. 'job:' .. number, 'version', 1)
    local base = redis.call('GET', P .. 'base')
    if base and version < tonumber(base) then
        redis.call('HSET', P .. 'job:' .. number, 'version', base)
        return base
    end
    return string.format('%.0f', version)
end

local function add_to(sums, standing, by)
    if redis.call('HINCRBY', P .. sums, standing, by) == 0 then redis.call('HDEL', P .. sums, standing) end
end

-- How many jobs there are per state and queue: `counts` of those here, `past_counts` of those that the archive has.
--
-- While they are counted anew from the first number on, what changes behind the number that was reached changes there too
-- (recount.lua). The archive is counted in pieces that take a while: of a job in the piece (up to the second number) that
-- changes meanwhile, the first change tells what it was counted as before, and it is not counted again (audit_compare.lua).
local function count(sums, number, state, queue, by)
    add_to(sums, state .. ' ' .. queue, by)
    local place = redis.call('GET', P .. 'recounting:' .. sums)
    if not place or number > string.sub(place, 18, 33) then return end
    local first = number > string.sub(place, 1, 16) and redis.call('SADD', P .. 'touched:' .. sums, number) == 1
    if by > 0 or not first then add_to('recount:' .. sums, state .. ' ' .. queue, by) end
end

-- The lines themselves are in the order of their first jobs, so that a claim need not look at all of them: `lines` has
-- number and queue of each, `heads` what it has of a queue.
local function move_up(queue)
    local first = redis.call('ZRANGE', P .. 'ready:' .. queue, 0, 0, 'WITHSCORES')
    local before, head = redis.call('HGET', P .. 'heads', queue), first[1] and first[1] .. ' ' .. queue
    if before and before ~= head then redis.call('ZREM', P .. 'lines', before) end
    if head then
        redis.call('ZADD', P .. 'lines', first[2], head)
        redis.call('HSET', P .. 'heads', queue, head)
    elseif before then
        redis.call('HDEL', P .. 'heads', queue)
    end
end

local function join_line(number, queue, sort_key)
    redis.call('ZADD', P .. 'ready:' .. queue, sort_key, number)
    if redis.call('ZRANK', P .. 'ready:' .. queue, number) == 0 then move_up(queue) end
end

-- Where a job that waits is waited for: its line, or the delayed ones.
local function line_up(number, queue, run_at, sort_key, now)
    if tonumber(run_at) <= tonumber(now) then
        join_line(number, queue, sort_key)
    else
        redis.call('ZADD', P .. 'delayed', run_at, number)
    end
end

local function leave_line(number, queue)
    if redis.call('ZREM', P .. 'ready:' .. queue, number) == 1 then move_up(queue) end
    redis.call('ZREM', P .. 'delayed', number)
end

-- Out of every index that follows from its state.
local function leave(number, state, queue, key)
    redis.call('ZREM', P .. 'state:' .. state, number)
    if has_ended(state) then
        redis.call('ZREM', P .. 'ended:' .. state, number)
        return
    end
    if key and redis.call('HGET', P .. 'keys', key) == number then redis.call('HDEL', P .. 'keys', key) end
    if state == 'processing' then
        redis.call('ZREM', P .. 'leased', number)
    elseif waits_to_run(state) then
        leave_line(number, queue)
    end
end

-- Into every index that follows from its state. `job` has the fields of the hash.
local function enter(number, job, key, now)
    redis.call('ZADD', P .. 'state:' .. job.state, number, number)
    redis.call('ZADD', P .. 'updated', job.updated_at, number)
    redis.call('ZADD', P .. 'next', job.sort_key, number)
    if has_ended(job.state) then
        if job.finished_at then redis.call('ZADD', P .. 'ended:' .. job.state, job.finished_at, number) end
        return
    end
    if key then redis.call('HSET', P .. 'keys', key, number) end
    if job.state == 'processing' and job.lease_until then
        redis.call('ZADD', P .. 'leased', job.lease_until, number)
    elseif waits_to_run(job.state) then
        line_up(number, job.queue, job.run_at, job.sort_key, now)
    end
end

-- To the archive, where there is one: from the stream whoever moves jobs there takes them. The job knows its entry, by
-- which the repair pass sees that there is one.
local function depart(number, id, version)
    if redis.call('EXISTS', P .. 'archive') == 0 then return end
    local entry = redis.call('XADD', P .. 'stream', '*', 'number', number, 'version', version, 'id', id)
    redis.call('HSET', P .. 'job:' .. number, 'entry', entry)
end

-- A new job's own keys, once it has a number.
local function create(number, job)
    redis.call('HSET', P .. 'job:' .. number, 'id', job.id, 'created_at', job.created_at, 'version', job.version,
        'spec', job.spec)
    if job.key then redis.call('HSET', P .. 'job:' .. number, 'key', job.key) end
    if job.marks then redis.call('HSET', P .. 'job:' .. number, 'marks', cmsgpack.pack(job.marks)) end
    redis.call('HSET', P .. 'ids', job.id, number)
    redis.call('ZADD', P .. 'names', 0, job.id)
    redis.call('ZADD', P .. 'created', number, number)
    for _, mark in ipairs(job.marks or {}) do
        redis.call('ZADD', P .. 'by:' .. mark, number, number)
    end
end

-- What changes of a job, into its hash: what has no value is absent.
local CHANGING = {'state', 'queue', 'run_at', 'sort_key', 'updated_at', 'attempts', 'attempt_id', 'worker',
                  'claimed_at', 'lease_until', 'finished_at', 'rest', 'cause'}
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

-- For whom a job waits from now on. One of ten thousand parents that is there no more is one step.
local function wait_for(number, parents)
    local before = redis.call('HGET', P .. 'job:' .. number, 'waits')
    if not before and not parents then return end
    local wanted = {}
    for _, parent in ipairs(parents or {}) do wanted[parent] = true end
    for _, parent in ipairs(unpacked(before)) do
        if wanted[parent] then
            wanted[parent] = nil
        else
            redis.call('SREM', P .. 'waits:' .. parent, number)
        end
    end
    for _, parent in ipairs(parents or {}) do
        if wanted[parent] then redis.call('SADD', P .. 'waits:' .. parent, number) end
    end
    if parents then
        redis.call('HSET', P .. 'job:' .. number, 'waits', cmsgpack.pack(parents))
    else
        redis.call('HDEL', P .. 'job:' .. number, 'waits')
    end
end

-- Every trace of a job that has left the indexes of its state. The counts are the caller's.
local function forget(number, id)
    local marks = redis.call('HGET', P .. 'job:' .. number, 'marks')
    if id and redis.call('HGET', P .. 'ids', id) == number then
        redis.call('HDEL', P .. 'ids', id)
        redis.call('ZREM', P .. 'names', id)
    end
    wait_for(number, nil)
    for _, index in ipairs({'created', 'updated', 'next'}) do redis.call('ZREM', P .. index, number) end
    for _, mark in ipairs(unpacked(marks)) do redis.call('ZREM', P .. 'by:' .. mark, number) end
    for _, attempt in ipairs(redis.call('SMEMBERS', P .. 'outputs:' .. number)) do
        redis.call('UNLINK', P .. 'output:' .. attempt)
    end
    redis.call('UNLINK', P .. 'outputs:' .. number, P .. 'job:' .. number)
end

local NOTHING, EVERYTHING = string.rep('0', 16), string.rep('9', 16)

-- Begin to count anew, or see that nobody else has begun since. `run` names who counts. Who only wants to know whether the
-- sums are right begins if nobody else counts.
local function counts_on(sums, run, mends, reached)
    local place = redis.call('GET', P .. 'recounting:' .. sums)
    if reached ~= NOTHING then
        return place and string.sub(place, 1, 16) == reached and string.sub(place, 35) == run
    end
    if place and not mends then return false end
    redis.call('UNLINK', P .. 'recount:' .. sums, P .. 'touched:' .. sums)
    return true
end

-- From here on up to there. If nobody goes on within ten minutes, it is over.
local function reach(sums, run, number, upto)
    redis.call('SET', P .. 'recounting:' .. sums, number .. ' ' .. upto .. ' ' .. run, 'PX', 600000)
end

-- The end of counting anew: how many sums were wrong. What was counted takes their place, if it is to.
local function settle(mends, name)
    local sums, fresh = P .. name, P .. 'recount:' .. name
    local counted, before, wrong = redis.call('HGETALL', fresh), redis.call('HGETALL', sums), 0
    local known = {}
    for i = 1, #before, 2 do known[before[i]] = before[i + 1] end
    for i = 1, #counted, 2 do
        if known[counted[i]] ~= counted[i + 1] then wrong = wrong + 1 end
        known[counted[i]] = nil
    end
    for _ in pairs(known) do wrong = wrong + 1 end
    redis.call('UNLINK', P .. 'recounting:' .. name, P .. 'touched:' .. name)
    if mends and wrong > 0 then
        redis.call('UNLINK', sums)
        if counted[1] then redis.call('RENAME', fresh, sums) end
    end
    redis.call('UNLINK', fresh)
    return wrong
end
