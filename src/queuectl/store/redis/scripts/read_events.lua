-- Events behind a cursor, in order.
--
-- uses: event_ids
-- Changes nothing.
-- KEYS  the hash tag
-- ARGV  the cursor, or '' for the place before the oldest event, how many at most
-- Answers {1 if events behind the cursor are missing, otherwise 0; the cursor behind which the page begins; the entries}
--
-- The cursor of an event is its id in the stream. Nothing is missing behind the id of a kept event, and behind the id of the event
-- that was trimmed last. Every other id belongs to an event that was trimmed earlier, or that the server has lost in a failover.

local events, trimmed = P .. 'events', redis.call('GET', P .. 'trimmed') or '0-0'

local function page(after)
    return redis.call('XRANGE', events, '(' .. after, '+', 'COUNT', ARGV[2])
end

-- Whether no event of this queue can have had this id yet.
local function is_beyond_the_end(id)
    local last_ms, last_seq = greatest_event_id()
    local ms, seq = string.match(id, '^(%d+)-(%d+)$')
    ms = tonumber(ms)
    return ms > last_ms or ms == last_ms and tonumber(seq) > last_seq
end

local after = ARGV[1] == '' and trimmed or ARGV[1]
if after == trimmed or redis.call('XRANGE', events, after, after)[1] then return {0, after, page(after)} end
if is_beyond_the_end(after) then after = trimmed end
local found = page(after)
if not found[1] then
    local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
    after = last and last[1] or trimmed
end
return {1, after, found}
