-- Compare a piece of the archive, that was announced and then read, with what is known of it here, and count it.
--
-- KEYS  the hash tag
-- ARGV  the name of this run, '1' to mend or '0' to count only, the numbers between which it lies, then number, id, version,
--       state and queue of each job that the archive has
-- Answers {how many were not known here, numbers of those that were deleted}; in the last piece (it ends with nines) also
--         how many sums were wrong; nothing if another one counts

local run, mends, reached, upto = ARGV[1], ARGV[2] == '1', ARGV[3], ARGV[4]
local unknown, deleted = 0, {}

-- Whether the archive's copy is a job that is past: what is here is not, nor what was deleted.
local function is_past(number, id, version)
    local known = redis.call('ZSCORE', P .. 'past', id)
    if known and tonumber(known) == tonumber(version) then return true end
    if redis.call('HEXISTS', P .. 'ids', id) == 1 then return false end
    if not known and (redis.call('ZSCORE', P .. 'gone', number) or redis.call('HEXISTS', P .. 'leaving', number) == 1) then
        deleted[#deleted + 1] = number
        return false
    end
    unknown = unknown + 1
    if mends then redis.call('ZADD', P .. 'past', version, id) end
    return true
end

go_through()
if redis.call('GET', P .. 'recounting:past_counts') ~= reached .. ' ' .. upto .. ' ' .. run then return false end
for i = 5, #ARGV, 5 do
    local changed = redis.call('SISMEMBER', P .. 'touched:past_counts', ARGV[i]) == 1
    if not changed and is_past(ARGV[i], ARGV[i + 1], ARGV[i + 2]) then
        add_to('recount:past_counts', ARGV[i + 3] .. ' ' .. ARGV[i + 4], 1)
    end
end
redis.call('UNLINK', P .. 'touched:past_counts')
if upto == EVERYTHING then return {unknown, deleted, settle(mends, 'past_counts')} end
reach('past_counts', run, upto, upto)
return {unknown, deleted}
