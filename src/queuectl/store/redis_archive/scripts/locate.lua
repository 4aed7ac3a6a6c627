-- Where jobs are, of a queue that has an archive.
--
-- KEYS  the hash tag
-- ARGV  ids; the caller sends some hundreds at most
-- Answers for each its row if it is here, 'past' if the archive has it, or nothing: a copy that the archive may have all
--         the same is no job

local answers = {}
for i, id in ipairs(ARGV) do
    local number = redis.call('HGET', P .. 'ids', id)
    answers[i] = number and row(number) or redis.call('ZSCORE', P .. 'past', id) and 'past' or false
end
return answers
