-- Find out whether jobs are in Redis or archived.
--
-- uses: job
-- Changes nothing.
-- KEYS  the hash tag
-- ARGV  ids; the caller sends some hundreds at most
-- Answers for each its row if it is in Redis, 'past' if it is archived, or nothing if the job does not exist (the archive may have a copy)

local answers = {}
for i, id in ipairs(ARGV) do
    local number = redis.call('HGET', P .. 'ids', id)
    answers[i] = number and row(number) or redis.call('ZSCORE', P .. 'past', id) and 'past' or false
end
return answers
