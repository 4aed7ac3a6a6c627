-- The cursor behind all events that were written before a time.
--
-- Changes nothing.
-- KEYS  the hash tag
-- ARGV  the time in microseconds, or '' for the place behind the last event
-- Answers the cursor
--
-- Work: some fifty commands. The times of the events do not fall (events.lua), so two bisections find the first event that is not older:
-- one by the milliseconds of the ids, and one among the events of one millisecond.

local events, trimmed = P .. 'events', redis.call('GET', P .. 'trimmed') or '0-0'
local at = tonumber(ARGV[1])

local function id(ms, seq)
    return string.format('%.0f-%.0f', ms, seq)
end

local function part(entry, pattern)
    return tonumber(string.match(entry[1], pattern))
end

-- Whether the first event with this id or a greater one is older.
local function is_older(ms, seq)
    local found = redis.call('XRANGE', events, id(ms, seq), '+', 'COUNT', 1)[1]
    return found and (tonumber(found[2][2]) or 0) < at
end

-- Bisection: returns the smallest number for which `holds` is false. The caller knows that it is false for `high`.
local function bisect(low, high, holds)
    while low < high do
        local middle = math.floor((low + high) / 2)
        if holds(middle) then low = middle + 1 else high = middle end
    end
    return low
end

local first = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
if not first then return trimmed end
if not at then return last[1] end

local low = part(first, '^%d+')
local ms = bisect(low, part(last, '^%d+') + 1, function(ms) return is_older(ms, 0) end)
if ms == low then return trimmed end

-- The first event of the millisecond before is older, so that millisecond has events.
last = redis.call('XREVRANGE', events, '(' .. id(ms, 0), '-', 'COUNT', 1)[1]
local seq = bisect(0, part(last, '%d+$') + 1, function(seq) return is_older(ms - 1, seq) end)
return redis.call('XREVRANGE', events, '(' .. id(ms - 1, seq), '-', 'COUNT', 1)[1][1]
