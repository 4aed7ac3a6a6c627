-- For each queue with due jobs, when its longest waiting job became due.
--
-- uses: clock
-- Changes nothing.
-- KEYS  the hash tag
-- ARGV  now or '', how many jobs of each queue to look at
-- Answers pairs of queue and time
--
-- Work: so many jobs of each queue, but at most ten thousand of all queues (one of each at least), and a thousand delayed
-- ones.

local now, limit = clock(ARGV[1]), tonumber(ARGV[2])
local since = {}

local function look(number, queue)
    local job = redis.call('HMGET', P .. 'job:' .. number, 'run_at', 'queue')
    local at = tonumber(job[1] or '')
    queue = queue or job[2]
    if not at or not queue or at > tonumber(now) then return end
    if not since[queue] or at < tonumber(since[queue]) then since[queue] = job[1] end
end

local heads = redis.call('ZRANGE', P .. 'lines', 0, -1)
local each = math.max(1, math.min(limit, math.floor(10000 / math.max(1, #heads))))
for _, head in ipairs(heads) do
    local queue = string.sub(head, 18)
    for _, number in ipairs(redis.call('ZRANGE', P .. 'ready:' .. queue, 0, each - 1)) do look(number, queue) end
end
for _, number in ipairs(redis.call('ZRANGEBYSCORE', P .. 'delayed', '-inf', now, 'LIMIT', 0, 1000)) do look(number) end

local found = {}
for queue, at in pairs(since) do found[#found + 1] = {queue, at} end
return found
