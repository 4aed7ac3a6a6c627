-- archived → gone: forget archived jobs that the archive has lost, for instance when it was restored from a backup.
--
-- uses: memory
-- KEYS  the hash tag
-- ARGV  '1' to repair or '0' to count only, then id of each, and the version that `past` had when the archive was asked
-- Answers how many are missing; a job that was restored or archived again since is not

local missing = 0
bypass_maxmemory()
for i = 2, #ARGV, 2 do
    local known = redis.call('ZSCORE', P .. 'past', ARGV[i])
    if known and tonumber(known) == tonumber(ARGV[i + 1]) then
        missing = missing + 1
        if ARGV[1] == '1' then redis.call('ZREM', P .. 'past', ARGV[i]) end
    end
end
return missing
