-- Keep chunks under attempts that hold their jobs, then forget what lies between head and tail.
--
-- KEYS  the hash tag
-- ARGV  how many chunks; id, attempt id, n and packed chunk of each; then id, attempt id, after and before of each trim
-- Answers the attempt ids that hold nothing

local refused, told = {}, {}

local function holds(id, attempt)
    local number = redis.call('HGET', P .. 'ids', id)
    local held = number and redis.call('HMGET', P .. 'job:' .. number, 'state', 'attempt_id')
    if held and held[1] == 'processing' and held[2] == attempt then return number end
    if not told[attempt] then
        told[attempt] = true
        refused[#refused + 1] = attempt
    end
    return nil
end

local chunks = tonumber(ARGV[1])
for i = 2, 1 + 4 * chunks, 4 do
    local number = holds(ARGV[i], ARGV[i + 1])
    if number and redis.call('HSETNX', P .. 'output:' .. ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]) == 1 then
        redis.call('SADD', P .. 'outputs:' .. number, ARGV[i + 1])
    end
end
for i = 2 + 4 * chunks, #ARGV, 4 do
    if holds(ARGV[i], ARGV[i + 1]) then
        local gone = {}
        for _, n in ipairs(redis.call('HKEYS', P .. 'output:' .. ARGV[i + 1])) do
            if tonumber(n) > tonumber(ARGV[i + 2]) and tonumber(n) < tonumber(ARGV[i + 3]) then gone[#gone + 1] = n end
        end
        for _, n in ipairs(gone) do redis.call('HDEL', P .. 'output:' .. ARGV[i + 1], n) end
    end
end
return refused
