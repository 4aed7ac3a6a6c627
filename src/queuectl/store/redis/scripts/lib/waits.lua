-- The parents that a blocked job waits for.

-- The texts in a packed field. Empty if the field cannot be unpacked.
local function unpacked(text)
    local ok, found = pcall(cmsgpack.unpack, text or '')
    return ok and type(found) == 'table' and found or {}
end

-- Set the parents that a job waits for. Only the difference is written: if one of ten thousand parents has ended, one set changes.
local function set_parents(number, parents)
    local before = redis.call('HGET', P .. 'job:' .. number, 'waits')
    if not before and not parents then return end
    local wanted = {}
    for _, parent in ipairs(parents or {}) do wanted[parent] = true end
    for _, parent in ipairs(unpacked(before)) do
        if wanted[parent] then
            wanted[parent] = nil
        else
            redis.call('SREM', P .. 'waits:' .. parent, number)
        end
    end
    for _, parent in ipairs(parents or {}) do
        if wanted[parent] then redis.call('SADD', P .. 'waits:' .. parent, number) end
    end
    if parents then
        redis.call('HSET', P .. 'job:' .. number, 'waits', cmsgpack.pack(parents))
    else
        redis.call('HDEL', P .. 'job:' .. number, 'waits')
    end
end
