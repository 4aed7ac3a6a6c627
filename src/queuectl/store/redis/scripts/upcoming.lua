-- The entries of the shared tables that need work, soonest first.
--
-- Changes nothing.
-- KEYS  the hash tag
-- ARGV  limit
-- Answers for each {'table/key', 'version value', due in microseconds}
--
-- Work: two commands for each entry. A name without an entry, which only a manual change can cause, is left out.

local answers, names = {}, redis.call('ZRANGE', P .. 'due', 0, ARGV[1] - 1, 'WITHSCORES')
for i = 1, #names, 2 do
    local name, key = string.match(names[i], '^(%l+)/(.*)$')
    local entry = name and redis.call('HGET', P .. 'shared:' .. name, key)
    if entry then answers[#answers + 1] = {names[i], entry, names[i + 1]} end
end
return answers
