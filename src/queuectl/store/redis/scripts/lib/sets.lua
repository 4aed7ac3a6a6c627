-- Changes sorted sets at once, or gathers the changes of a batch of jobs.
--
-- After `gather` the changes are only noted, and `write_sets` makes them with one command for each set. Commands take most of the time
-- of a script. Until then a script must not read these sets. `write_sets` removes before it adds: no job may be added to a set and
-- removed from it in one batch.

local gathered = false

local function gather()
    gathered = {ZREM = {}, ZADD = {}}
end

-- The words that were noted for a set.
local function noted(verb, key)
    local words = gathered[verb][key] or {n = 0}
    gathered[verb][key] = words
    return words
end

local function remove_from(key, member)
    if not gathered then
        redis.call('ZREM', P .. key, member)
        return
    end
    local words = noted('ZREM', key)
    words.n = words.n + 1
    words[words.n] = member
end

local function put_into(key, score, member)
    if not gathered then
        redis.call('ZADD', P .. key, score, member)
        return
    end
    local words = noted('ZADD', key)
    local n = words.n
    words[n + 1], words[n + 2], words.n = score, member, n + 2
end

local function write_sets()
    local changes = gathered
    gathered = false
    for _, verb in ipairs({'ZREM', 'ZADD'}) do
        for key, words in pairs(changes[verb]) do redis.call(verb, P .. key, unpack(words, 1, words.n)) end
    end
end
