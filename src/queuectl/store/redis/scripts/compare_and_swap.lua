-- Compare and swap one entry of a table, stored as 'version value'. Version 0 is an absent entry.
--
-- uses: memory, notify
-- KEYS  the hash tag
-- ARGV  table, key, version, then the value as text, or nothing to remove the entry
-- Answers 1, or 0 if the entry has another version

bypass_maxmemory()
local entries = P .. 'shared:' .. ARGV[1]
local entry = redis.call('HGET', entries, ARGV[2])
local found = entry and string.match(entry, '^(%d+) ') or '0'
if found ~= ARGV[3] then return 0 end
if ARGV[4] then
    redis.call('HSET', entries, ARGV[2], string.format('%d', tonumber(found) + 1) .. ' ' .. ARGV[4])
else
    redis.call('HDEL', entries, ARGV[2])
end
notify('work')
return 1
