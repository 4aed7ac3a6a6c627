-- Forget past jobs that the archive has lost.
--
-- KEYS  the hash tag
-- ARGV  '1' to mend or '0' to count only, then id of each and the version with which it was known when the archive was asked
-- Answers how many are lost: what has come back or was archived anew meanwhile is not

local lost = 0
go_through()
for i = 2, #ARGV, 2 do
    local known = redis.call('ZSCORE', P .. 'past', ARGV[i])
    if known and tonumber(known) == tonumber(ARGV[i + 1]) then
        lost = lost + 1
        if ARGV[1] == '1' then redis.call('ZREM', P .. 'past', ARGV[i]) end
    end
end
return lost
