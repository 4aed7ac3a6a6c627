-- Reads jobs. A job is the hash job:<number>; the number has sixteen digits, so that numbers sort as texts.

-- The fields of a row, in order; the number of the job follows. `rows.py` decodes them.
local FIELDS = {'id', 'created_at', 'version', 'state', 'queue', 'run_at', 'sort_key', 'updated_at', 'attempts',
                'attempt_id', 'worker', 'claimed_at', 'lease_until', 'rest', 'spec', 'cause',
                'progress'}
local REQUIRED, NUMBERS = 9, {2, 3, 6, 7, 8, 9}

-- Whether a text is a whole number below 10^18, so that an addition does not overflow.
local function is_whole_number(text)
    return text and #text < 19 and string.match(text, '^-?%d+$') ~= nil
end

-- Whether the scripts can use a row. A row may be unreadable after a manual change of its fields.
local function is_readable(found)
    for i = 1, REQUIRED do
        if not found[i] then return false end
    end
    for _, i in ipairs(NUMBERS) do
        if not is_whole_number(found[i]) then return false end
    end
    return true
end

-- The row of a job, readable or not. Returns nil if the job does not exist.
local function row(number)
    local found, exists = redis.call('HMGET', P .. 'job:' .. number, unpack(FIELDS)), false
    for i = 1, #FIELDS do exists = exists or found[i] end
    if not exists then return nil end
    found[#FIELDS + 1] = number
    return found
end

local function rows(numbers)
    local found = {}
    for _, number in ipairs(numbers) do
        found[#found + 1] = row(number)
    end
    return found
end
