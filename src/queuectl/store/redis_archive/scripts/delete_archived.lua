-- Delete jobs that the archive has: from now on they are gone, and the archive is to be told.
--
-- KEYS  the hash tag
-- ARGV  now or '', then number, id, version, state and queue of each, as it was looked at in the archive
-- Answers the numbers that were deleted: what is here again, or has been archived anew since, is left alone

local now, gone = clock(ARGV[1]), {}
go_through()
for i = 2, #ARGV, 5 do
    local number, id = ARGV[i], ARGV[i + 1]
    local version = redis.call('ZSCORE', P .. 'past', id)
    if version and tonumber(version) <= tonumber(ARGV[i + 2]) then
        redis.call('ZREM', P .. 'past', id)
        if ARGV[i + 3] ~= '' then count('past_counts', number, ARGV[i + 3], ARGV[i + 4], -1) end
        redis.call('HSET', P .. 'leaving', number, id)
        redis.call('ZADD', P .. 'gone', now, number)
        gone[#gone + 1] = number
    end
end
return gone
