-- Put jobs into the indexes in which they belong, by what their hashes say.
--
-- KEYS  the hash tag
-- ARGV  '1' to mend or '0' to count only, now or '', then numbers; the caller sends a hundred at most
-- Answers how many jobs stood in a wrong place, and how many cannot be read

local mends, now, wrong, unreadable = ARGV[1] == '1', clock(ARGV[2]), 0, 0

local function stands(index, member, score)
    local found = redis.call('ZSCORE', P .. index, member)
    return found and tonumber(found) == tonumber(score)
end

-- Whether a job stands where it belongs; afterwards it does.
local function place(index, member, score)
    if stands(index, member, score) then return true end
    if mends then redis.call('ZADD', P .. index, score, member) end
    return false
end

local function hold(hash, name, number)
    if redis.call('HGET', P .. hash, name) == number then return true end
    if mends then redis.call('HSET', P .. hash, name, number) end
    return false
end

local function is_in_line(number, job)
    if redis.call('HEXISTS', P .. 'arriving', number) == 1 or stands('delayed', number, job.run_at) then return true end
    local has_head = redis.call('HEXISTS', P .. 'heads', job.queue) == 1
    if stands('ready:' .. job.queue, number, job.sort_key) and has_head then return true end
    if mends then line_up(number, job.queue, job.run_at, job.sort_key, now) end
    return false
end

local function is_on_its_way(number, job)
    if redis.call('EXISTS', P .. 'archive') == 0 then return true end
    if job.entry == 'stays' then return true end
    if job.entry and #redis.call('XRANGE', P .. 'stream', job.entry, job.entry) == 1 then return true end
    if mends then depart(number, job.id, job.version) end
    return false
end

local function holds_its_key(number, job)
    if not job.key or has_ended(job.state) then return true end
    local other = redis.call('HGET', P .. 'keys', job.key)
    return other and other ~= number and whole_row(other) or hold('keys', job.key, number)
end

local function is_waited_for(number, job)
    local well = true
    for _, parent in ipairs(unpacked(job.waits)) do
        well = redis.call('SISMEMBER', P .. 'waits:' .. parent, number) == 1 and well
        if mends then redis.call('SADD', P .. 'waits:' .. parent, number) end
    end
    return well
end

local function by_its_state(number, job)
    if waits_to_run(job.state) then return is_in_line(number, job) end
    if job.state == 'processing' and job.lease_until then return place('leased', number, job.lease_until) end
    if not has_ended(job.state) then return true end
    local well = not job.finished_at or place('ended:' .. job.state, number, job.finished_at)
    return is_on_its_way(number, job) and well
end

local function stands_well(number, job)
    local well = place('created', number, number)
    well = place('updated', number, job.updated_at) and well
    well = place('next', number, job.sort_key) and well
    well = place('state:' .. job.state, number, number) and well
    well = hold('ids', job.id, number) and well
    well = place('names', job.id, 0) and well
    for _, mark in ipairs(unpacked(job.marks)) do
        well = place('by:' .. mark, number, number) and well
    end
    well = holds_its_key(number, job) and well
    well = is_waited_for(number, job) and well
    return by_its_state(number, job) and well
end

local MORE = {'finished_at', 'key', 'marks', 'waits', 'entry'}
for i = 3, #ARGV do
    local found, job = whole_row(ARGV[i]), {}
    if found then
        local more = redis.call('HMGET', P .. 'job:' .. ARGV[i], unpack(MORE))
        for j, name in ipairs(FIELDS) do job[name] = found[j] end
        for j, name in ipairs(MORE) do job[name] = more[j] end
        if not stands_well(ARGV[i], job) then wrong = wrong + 1 end
    elseif redis.call('EXISTS', P .. 'job:' .. ARGV[i]) == 1 then
        unreadable = unreadable + 1
    end
end
return {wrong, unreadable}
