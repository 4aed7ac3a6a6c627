-- uses: sets
--
-- The numbers of jobs.

-- Change a sum. A sum of zero is removed.
local function add_to(sums, field, by)
    if redis.call('HINCRBY', P .. sums, field, by) == 0 then redis.call('HDEL', P .. sums, field) end
end

-- The changes of the counts since `gather`.
local counted = {}

-- Jobs in Redis, per state and queue. Archived jobs are counted separately (archived_counts.lua).
local function count(state, queue, by)
    local field = state .. ' ' .. queue
    if gathered then
        counted[field] = (counted[field] or 0) + by
    else
        add_to('counts', field, by)
    end
end

local function write_counts()
    for field, by in pairs(counted) do
        if by ~= 0 then add_to('counts', field, by) end
    end
end
