-- Keep chunks under attempts that hold their jobs, then forget what lies between head and tail.
--
-- KEYS  the hash tag
-- ARGV  how many chunks; id, attempt id, n and packed chunk of each; then id, attempt id, after and
--       before of each trim
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
    local number, kept, n = holds(ARGV[i], ARGV[i + 1]), P .. 'output:' .. ARGV[i + 1], ARGV[i + 2]
    if number and redis.call('ZCOUNT', kept, n, n) == 0 then
        redis.call('ZADD', kept, n, ARGV[i + 3])
        redis.call('SADD', P .. 'outputs:' .. number, ARGV[i + 1])
    end
end
for i = 2 + 4 * chunks, #ARGV, 4 do
    if holds(ARGV[i], ARGV[i + 1]) then
        redis.call('ZREMRANGEBYSCORE', P .. 'output:' .. ARGV[i + 1], '(' .. ARGV[i + 2], '(' .. ARGV[i + 3])
    end
end
return refused
