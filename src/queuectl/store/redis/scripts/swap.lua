-- Compare and swap of one entry of a shared table, kept as 'version value'; version 0 is an absent one.
--
-- KEYS  the hash tag
-- ARGV  table, key, version, then the value as text, or nothing to remove it
-- Answers 1, or 0 if somebody was faster

go_through()
local table_, found = P .. 'shared:' .. ARGV[1], nil
local entry = redis.call('HGET', table_, ARGV[2])
found = entry and string.match(entry, '^(%d+) ') or '0'
if found ~= ARGV[3] then return 0 end
if ARGV[4] then
    redis.call('HSET', table_, ARGV[2], string.format('%d', tonumber(found) + 1) .. ' ' .. ARGV[4])
else
    redis.call('HDEL', table_, ARGV[2])
end
ring('work')
return 1
