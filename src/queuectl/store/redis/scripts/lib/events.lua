-- uses: history
--
-- Writes events into the stream `events`.
--
-- Two promises hold after each change of the server's clock, and after a server has lost writes:
-- - The ids of the stream rise: XADD * sees to that, and after lost writes raise_event_ids (history.lua).
-- - The times do not fall, so that event_cursor.lua can search by time: an event is not older than the event before.

-- The time of the events of this script.
local told_at = nil

local function write_event(at, number, line)
    return redis.call('XADD', P .. 'events', '*', 'at', at, 'number', number, 'line', line)
end

-- Write the first event of a script, and decide on the time of all. An id has the milliseconds of the clock, except if the clock was set
-- back or the ids were raised: only then the event before may be newer. To read it costs more than to write an event.
local function write_first_event(number, line, now)
    told_at = now
    local id = write_event(now, number, line)
    if tonumber(string.match(id, '^%d+')) == math.floor(tonumber(now) / 1000) then return end
    local before = redis.call('XREVRANGE', P .. 'events', '(' .. id, '-', 'COUNT', 1)[1]
    local newest = before and tonumber(before[2][2])
    if newest and newest > tonumber(now) then
        told_at = before[2][2]
        redis.call('XDEL', P .. 'events', id)
        write_event(told_at, number, line)
    end
end

-- Write the event of a change that is made. A caller writes something else before, because an event must not be refused (memory.lua).
-- `line` is JSON without time and number. All entries have the same fields in this order: then the stream stores no names of fields.
local function tell(number, line, now)
    check_replication_history()
    number = string.match(number, '^0*(.+)$')
    if told_at then write_event(told_at, number, line) else write_first_event(number, line, now) end
end
