-- Compare a piece of the archive with `past`, and count its jobs. The piece was announced before it was read.
--
-- uses: archived_counts, counts, memory
-- KEYS  the hash tag
-- ARGV  the name of this run, '1' to repair or '0' to compare only, the last numbers of the previous and of this piece, then number,
--       id, version, state and queue of each copy that the archive has in this piece
-- Answers {how many copies were unknown, numbers of deleted jobs whose copies are left}; in the last piece, whose last number is all
--         nines, also how many sums were wrong; nothing if another run has displaced this one

local run, repairs, reached, upto = ARGV[1], ARGV[2] == '1', ARGV[3], ARGV[4]
local unknown, deleted = 0, {}

-- Whether a copy is an archived job. A copy that is neither in `past`, nor of a job in Redis, nor of one that was deleted within a day,
-- belongs to a job that Redis has lost: this job now counts as archived.
local function is_archived(number, id, version)
    local known = redis.call('ZSCORE', P .. 'past', id)
    if known and tonumber(known) == tonumber(version) then return true end
    if redis.call('HEXISTS', P .. 'ids', id) == 1 then return false end
    if not known and (redis.call('ZSCORE', P .. 'gone', number) or redis.call('HEXISTS', P .. 'leaving', number) == 1) then
        deleted[#deleted + 1] = number
        return false
    end
    unknown = unknown + 1
    if repairs then redis.call('ZADD', P .. 'past', version, id) end
    return true
end

bypass_maxmemory()
if redis.call('GET', P .. 'recounting:past_counts') ~= reached .. ' ' .. upto .. ' ' .. run then return false end
for i = 5, #ARGV, 5 do
    local is_touched = redis.call('SISMEMBER', P .. 'touched:past_counts', ARGV[i]) == 1
    if not is_touched and is_archived(ARGV[i], ARGV[i + 1], ARGV[i + 2]) then
        add_to('recount:past_counts', ARGV[i + 3] .. ' ' .. ARGV[i + 4], 1)
    end
end
redis.call('UNLINK', P .. 'touched:past_counts')
if upto == LAST then return {unknown, deleted, finish_recount(repairs)} end
set_progress(run, upto, upto)
return {unknown, deleted}
