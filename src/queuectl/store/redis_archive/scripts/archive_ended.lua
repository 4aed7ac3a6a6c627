-- live → copying: enter ended jobs into the stream that have no entry there, a piece of one state at a time.
--
-- uses: archive, job
-- KEYS  the hash tag
-- ARGV  '1' to enter them or '0' to count only, a state in which jobs have ended, the last number of the previous piece, how many
--       jobs at most
-- Answers {how many had no entry, the last number of this piece, or '' if it was the last piece}
--
-- Normally the script that ends a job enters it. This script is for jobs that ended before the queue had an archive, and for a
-- stream that was deleted.

local repairs, missing = ARGV[1] == '1', 0

local function has_entry(entry)
    return entry == 'stays' or entry and #redis.call('XRANGE', P .. 'stream', entry, entry) == 1
end

local numbers = redis.call('ZRANGEBYSCORE', P .. 'state:' .. ARGV[2], '(' .. ARGV[3], '+inf', 'LIMIT', 0, ARGV[4])
for _, number in ipairs(numbers) do
    local job = redis.call('HMGET', P .. 'job:' .. number, 'id', 'version', 'entry')
    if job[1] and is_whole_number(job[2]) and not has_entry(job[3]) then
        missing = missing + 1
        if repairs then send_to_archive(number, job[1], job[2]) end
    end
end
return {missing, #numbers == tonumber(ARGV[4]) and numbers[#numbers] or ''}
