-- A part of the output of jobs, in the order of the jobs and of the ids of their attempts.
--
-- Changes nothing.
-- KEYS  the hash tag
-- ARGV  how many chunks at most, the last attempt of the first job that was read and its last n, or '' and '', then numbers
--       of jobs; the caller sends some hundreds at most
-- Answers {number, attempt, packed chunks} of each attempt that has any

local left, found = tonumber(ARGV[1]), {}

local function read(number, attempt, after)
    local chunks = left > 0
        and redis.call('ZRANGEBYSCORE', P .. 'output:' .. attempt, after, '+inf', 'LIMIT', 0, left) or {}
    if #chunks > 0 then found[#found + 1] = {number, attempt, chunks} end
    left = left - #chunks
end

for i = 4, #ARGV do
    local attempts = left > 0 and redis.call('SMEMBERS', P .. 'outputs:' .. ARGV[i]) or {}
    table.sort(attempts)
    for _, attempt in ipairs(attempts) do
        if i > 4 or attempt > ARGV[2] then
            read(ARGV[i], attempt, '-inf')
        elseif attempt == ARGV[2] then
            read(ARGV[i], attempt, '(' .. ARGV[3])
        end
    end
end
return found
