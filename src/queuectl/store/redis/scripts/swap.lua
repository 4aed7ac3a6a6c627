-- Compare and swap one entry of a table, stored as 'version value', and add its jobs. Version 0 is an absent entry.
--
-- uses: add, clock, history, memory, notify
-- KEYS  the hash tag
-- ARGV  now or '', table, key, version, value as text or '' to remove the entry, due in microseconds or '', then a packed
--       job each, as for add.lua
-- Answers 1, or 0 if the entry has another version, or 'unsure', and changes nothing, if the greatest number of the
--         archive must be read first (raise_number.lua)
--
-- Without jobs it also works when memory is full: a person must be able to pause a queue then.

local entries = P .. 'shared:' .. ARGV[2]
local due = P .. 'due'
local name, now = ARGV[2] .. '/' .. ARGV[3], clock(ARGV[1])

local entry = redis.call('HGET', entries, ARGV[3])
local found = entry and string.match(entry, '^(%d+) ') or '0'
if found ~= ARGV[4] then return 0 end
if #ARGV == 6 then bypass_maxmemory() end
if #ARGV > 6 then
    check_replication_history()
    if redis.call('EXISTS', P .. 'unsure') == 1 then return 'unsure' end
end
for i = 7, #ARGV do
    add_job(cmsgpack.unpack(ARGV[i]), now)
end
if ARGV[5] == '' then
    redis.call('HDEL', entries, ARGV[3])
else
    redis.call('HSET', entries, ARGV[3], string.format('%d', tonumber(found) + 1) .. ' ' .. ARGV[5])
end
if ARGV[6] == '' then
    redis.call('ZREM', due, name)
else
    redis.call('ZADD', due, ARGV[6], name)
end
notify('work')
return 1
