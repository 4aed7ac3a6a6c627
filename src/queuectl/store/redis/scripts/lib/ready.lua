-- uses: sets
--
-- The ready index: the jobs that may be claimed, in order.
--
-- ready:<queue> has the due jobs of a queue by sort_key. `lines` has the first job of each queue as '<number> <queue>' by the same score,
-- so that a claim does not read all queues. `heads` has that member of each queue, to find it again in `lines`. `delayed` has the
-- jobs that are not due yet by run_at.

-- Update `lines` and `heads`, because the first job of a queue may have changed.
local function update_head(queue)
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

local function add_ready(number, queue, sort_key)
    redis.call('ZADD', P .. 'ready:' .. queue, sort_key, number)
    if redis.call('ZRANK', P .. 'ready:' .. queue, number) == 0 then update_head(queue) end
end

-- The queues whose jobs have changed since `gather`.
local changed_queues = {}

-- Enter a job as ready, or as delayed until the time from which it may be claimed.
local function schedule(number, queue, run_at, sort_key, now)
    if tonumber(run_at) > tonumber(now) then
        put_into('delayed', run_at, number)
    elseif gathered then
        put_into('ready:' .. queue, sort_key, number)
        changed_queues[queue] = true
    else
        add_ready(number, queue, sort_key)
    end
end

local function unschedule(number, queue)
    remove_from('delayed', number)
    if gathered then
        remove_from('ready:' .. queue, number)
        changed_queues[queue] = true
    elseif redis.call('ZREM', P .. 'ready:' .. queue, number) == 1 then
        update_head(queue)
    end
end

local function update_changed_heads()
    for queue in pairs(changed_queues) do update_head(queue) end
end
