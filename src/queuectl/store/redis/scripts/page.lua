-- A page of jobs in the order of one index, or of several in which no two jobs have the same score.
--
-- uses: job
-- Changes nothing.
-- KEYS  the hash tag
-- ARGV  'up' or 'down', the first and the last score, how many of the first score to skip, how many jobs, then the indexes
-- Answers {numbers, scores, rows}; one script reads all indexes, so a job that moves between two of them is found once

local verb, limit = ARGV[1] == 'up' and 'ZRANGEBYSCORE' or 'ZREVRANGEBYSCORE', tonumber(ARGV[5])
local found = {}
for i = 6, #ARGV do
    local piece = redis.call(verb, P .. ARGV[i], ARGV[2], ARGV[3], 'WITHSCORES', 'LIMIT', ARGV[4], limit)
    for j = 1, #piece, 2 do found[#found + 1] = {number = piece[j], score = piece[j + 1]} end
end
if #ARGV > 6 then
    table.sort(found, function(a, b)
        if ARGV[1] == 'up' then return a.number < b.number else return a.number > b.number end
    end)
end
local numbers, scores = {}, {}
for i = 1, math.min(#found, limit) do
    numbers[i], scores[i] = found[i].number, found[i].score
end
return {numbers, scores, rows(numbers)}
