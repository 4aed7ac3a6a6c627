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

-- Enter a job as ready, or as delayed until the time from which it may be claimed.
local function schedule(number, queue, run_at, sort_key, now)
    if tonumber(run_at) <= tonumber(now) then
        add_ready(number, queue, sort_key)
    else
        redis.call('ZADD', P .. 'delayed', run_at, number)
    end
end

local function unschedule(number, queue)
    if redis.call('ZREM', P .. 'ready:' .. queue, number) == 1 then update_head(queue) end
    redis.call('ZREM', P .. 'delayed', number)
end
