-- archived → gone: forget archived jobs that the archive has lost, for example because it was restored from a backup.
--
-- uses: memory
-- KEYS  the hash tag
-- ARGV  '1' to repair or '0' to count only, then id of each, and its version in `past` when the archive was read
-- Answers how many are missing. A job that was restored or archived again since then does not count as missing

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
