-- Store chunks of running attempts and of jobs that are being imported, then delete the chunks between head and tail.
--
-- KEYS  the hash tag
-- ARGV  how many chunks; id, attempt id, n and packed chunk of each; then id, attempt id, after and before of each trim
-- Answers the attempt ids that are not running

local refused, seen = {}, {}

-- The number of the job, if this attempt is running or the job is being imported.
local function running(id, attempt)
    local number = redis.call('HGET', P .. 'ids', id)
    local job = number and redis.call('HMGET', P .. 'job:' .. number, 'state', 'attempt_id', 'cause')
    if job and job[1] == 'processing' and job[2] == attempt then return number end
    if job and job[1] == 'held' and job[3] == 'moved' then return number end
    if not seen[attempt] then
        seen[attempt] = true
        refused[#refused + 1] = attempt
    end
    return nil
end

local chunks = tonumber(ARGV[1])
for i = 2, 1 + 4 * chunks, 4 do
    local number, chunks_of_attempt, n = running(ARGV[i], ARGV[i + 1]), P .. 'output:' .. ARGV[i + 1], ARGV[i + 2]
    if number and redis.call('ZCOUNT', chunks_of_attempt, n, n) == 0 then
        redis.call('ZADD', chunks_of_attempt, n, ARGV[i + 3])
        redis.call('SADD', P .. 'outputs:' .. number, ARGV[i + 1])
    end
end
for i = 2 + 4 * chunks, #ARGV, 4 do
    if running(ARGV[i], ARGV[i + 1]) then
        redis.call('ZREMRANGEBYSCORE', P .. 'output:' .. ARGV[i + 1], '(' .. ARGV[i + 2], '(' .. ARGV[i + 3])
    end
end
return refused
