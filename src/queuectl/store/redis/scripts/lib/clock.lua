-- Time and arithmetic. Numbers are passed and stored as decimal text, because `..` prints only 14 digits of a Lua number.

-- The server's time in microseconds. Tests give a time of their own.
local function clock(given)
    if given ~= '' then return given end
    local time = redis.call('TIME')
    return time[1] .. string.format('%06d', tonumber(time[2]))
end

local function plus(a, b)
    return string.format('%.0f', tonumber(a) + tonumber(b))
end
