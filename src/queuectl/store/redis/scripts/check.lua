-- Compare the sizes of indexes that must agree, for `doctor`. They differ only after a manual change of keys.
--
-- uses: state
-- Changes nothing.
-- KEYS  the hash tag
-- Answers {index, its size, the size that it has to have} of each that differs

local wrong = {}

local function expect(name, size, wanted)
    if size ~= wanted then wrong[#wrong + 1] = {name, size, wanted} end
end

local jobs = redis.call('ZCARD', P .. 'created')
expect('ids', redis.call('HLEN', P .. 'ids'), jobs)
for _, name in ipairs({'names', 'updated', 'next'}) do expect(name, redis.call('ZCARD', P .. name), jobs) end

local sums, counts, indexed, waiting = {}, redis.call('HGETALL', P .. 'counts'), 0, 0
for i = 1, #counts, 2 do
    local state = string.match(counts[i], '^%a+')
    sums[state] = (sums[state] or 0) + tonumber(counts[i + 1])
end
for _, state in ipairs({'blocked', 'pending', 'failed', 'processing', 'held', 'completed', 'dead', 'cancelled'}) do
    local size = redis.call('ZCARD', P .. 'state:' .. state)
    expect('counts of ' .. state, sums[state] or 0, size)
    if state == 'processing' then expect('leased', redis.call('ZCARD', P .. 'leased'), size) end
    if waits_to_run(state) then waiting = waiting + size end
    indexed = indexed + size
end
expect('state', indexed, jobs)

-- A job that is being restored from the archive may not be ready yet.
local ready = redis.call('ZCARD', P .. 'delayed')
for _, queue in ipairs(redis.call('HKEYS', P .. 'heads')) do ready = ready + redis.call('ZCARD', P .. 'ready:' .. queue) end
if ready + redis.call('HLEN', P .. 'arriving') < waiting then expect('ready and delayed', ready, waiting) end
return wrong
