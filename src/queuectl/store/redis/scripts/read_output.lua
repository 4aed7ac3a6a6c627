-- The chunks of an attempt after a number, in order.
--
-- KEYS  the hash tag
-- ARGV  attempt id, after, how many at most
-- Answers n and packed chunk of each, flat

local numbers, found = {}, {}
for _, n in ipairs(redis.call('HKEYS', P .. 'output:' .. ARGV[1])) do
    if tonumber(n) > tonumber(ARGV[2]) then numbers[#numbers + 1] = tonumber(n) end
end
table.sort(numbers)
for i = 1, math.min(#numbers, tonumber(ARGV[3])) do
    local n = string.format('%d', numbers[i])
    found[#found + 1] = n
    found[#found + 1] = redis.call('HGET', P .. 'output:' .. ARGV[1], n)
end
return found
