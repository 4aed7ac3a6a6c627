-- The numbers of jobs.

-- Change a sum. A sum of zero is removed.
local function add_to(sums, field, by)
    if redis.call('HINCRBY', P .. sums, field, by) == 0 then redis.call('HDEL', P .. sums, field) end
end

-- Jobs in Redis, per state and queue. Archived jobs are counted separately (archived_counts.lua).
local function count(state, queue, by)
    add_to('counts', state .. ' ' .. queue, by)
end
