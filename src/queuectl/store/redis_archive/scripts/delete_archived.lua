-- archived → deleting: delete archived jobs. After this script they do not exist; the caller then deletes their copies.
--
-- uses: archive, archived_counts, clock, events, memory
-- KEYS  the hash tag
-- ARGV  now or '', then number, id, version, state and queue of each, as they were read in the archive, and its event as a line
--       or ''
-- Answers the numbers that were deleted; a job that was restored or archived again since then is not deleted

local now, deleted = clock(ARGV[1]), {}
bypass_maxmemory()
for i = 2, #ARGV, 6 do
    local number, id = ARGV[i], ARGV[i + 1]
    local version = redis.call('ZSCORE', P .. 'past', id)
    if version and tonumber(version) <= tonumber(ARGV[i + 2]) then
        redis.call('ZREM', P .. 'past', id)
        if ARGV[i + 3] ~= '' then count_archived(number, ARGV[i + 3], ARGV[i + 4], -1) end
        note_deletion(number, id, now)
        if ARGV[i + 5] ~= '' then tell(number, ARGV[i + 5], now) end
        deleted[#deleted + 1] = number
    end
end
return deleted
