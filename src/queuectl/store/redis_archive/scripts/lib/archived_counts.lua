-- uses: counts
--
-- The number of archived jobs per state and queue (`past_counts`), and a recount while jobs are archived, restored and deleted.
--
-- The sums are wrong after the archive was restored from a backup: the copies that it has lost cannot be asked for their states. So they
-- are counted again from the archive's copies, in pieces, by number. The invariant: of every job in the archive whose number is not
-- above `upto`, the new sums (`recount:past_counts`) contain exactly one count, either from audit_compare.lua or from the changes below.
-- Below `reached` a piece was compared before, so each change is applied to the new sums too. Between `reached` and `upto` a piece is
-- being read, and it is unknown whether a copy was read before or after a change. So the first change of a job marks the job as
-- touched. audit_compare.lua does not count touched jobs; only the changes themselves count them: a job that enters is counted,
-- and a job that leaves was never counted.
--
-- Without this invariant a job that is retried or deleted during a recount would be counted twice or not at all. Test: test_archived_audit.py,
-- test_a_change_during_the_audit_is_counted_once.

local FIRST, LAST = string.rep('0', 16), string.rep('9', 16)

-- `recounting:past_counts` is '<reached> <upto> <run>'. It expires after ten minutes without progress.
local function set_progress(run, reached, upto)
    redis.call('SET', P .. 'recounting:past_counts', reached .. ' ' .. upto .. ' ' .. run, 'PX', 600000)
end

-- Count a job that enters the archive (1) or leaves it (-1).
local function count_archived(number, state, queue, by)
    add_to('past_counts', state .. ' ' .. queue, by)
    local progress = redis.call('GET', P .. 'recounting:past_counts')
    if not progress then return end
    local reached, upto = string.sub(progress, 1, 16), string.sub(progress, 18, 33)
    if number > upto then return end
    local is_first = number > reached and redis.call('SADD', P .. 'touched:past_counts', number) == 1
    if by > 0 or not is_first then add_to('recount:past_counts', state .. ' ' .. queue, by) end
end

-- Begin a recount at FIRST, or check that the recount still belongs to this run. A run that only compares displaces no other run.
local function may_recount(run, repairs, reached)
    local progress = redis.call('GET', P .. 'recounting:past_counts')
    if reached ~= FIRST then
        return progress and string.sub(progress, 1, 16) == reached and string.sub(progress, 35) == run
    end
    if progress and not repairs then return false end
    redis.call('UNLINK', P .. 'recount:past_counts', P .. 'touched:past_counts')
    return true
end

-- End the recount. Returns how many sums were wrong. With `repairs` the new sums replace the old ones.
local function finish_recount(repairs)
    local sums, fresh = P .. 'past_counts', P .. 'recount:past_counts'
    local counted, before, wrong = redis.call('HGETALL', fresh), redis.call('HGETALL', sums), 0
    local known = {}
    for i = 1, #before, 2 do known[before[i]] = before[i + 1] end
    for i = 1, #counted, 2 do
        if known[counted[i]] ~= counted[i + 1] then wrong = wrong + 1 end
        known[counted[i]] = nil
    end
    for _ in pairs(known) do wrong = wrong + 1 end
    redis.call('UNLINK', P .. 'recounting:past_counts', P .. 'touched:past_counts')
    if repairs and wrong > 0 then
        redis.call('UNLINK', sums)
        if counted[1] then redis.call('RENAME', fresh, sums) end
    end
    redis.call('UNLINK', fresh)
    return wrong
end
