-- The ids of the stream of events.

-- The milliseconds and the number of the greatest id that an event ever got. Zeros if there was no event.
local function greatest_event_id()
    local info = redis.pcall('XINFO', 'STREAM', P .. 'events')
    for i = 1, #info, 2 do
        if info[i] == 'last-generated-id' then
            local ms, seq = string.match(info[i + 1], '^(%d+)-(%d+)$')
            return tonumber(ms), tonumber(seq)
        end
    end
    return 0, 0
end
