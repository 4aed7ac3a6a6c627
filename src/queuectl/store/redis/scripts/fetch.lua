-- Jobs by id or number.
--
-- uses: job
-- Changes nothing.
-- KEYS  the hash tag
-- ARGV  'id' or 'number', then the ids or numbers; the caller sends at most a thousand
-- Answers the rows of those that exist

local numbers = {}
for i = 2, #ARGV do
    numbers[#numbers + 1] = ARGV[1] == 'number' and ARGV[i] or redis.call('HGET', P .. 'ids', ARGV[i]) or nil
end
return rows(numbers)
