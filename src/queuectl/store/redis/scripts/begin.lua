-- The first words over a new connection: which queue this is, and whether the server is the one that it was.
--
-- KEYS  the hash tag
-- ARGV  the server's history (another one after a restart and after a failover), our schema or '' to make nothing, a fresh
--       name for the queue if it is to have an archive or '', for how many milliseconds a new queue need not be repaired
-- Answers the schema ('0' where there is no queue), and where its archive is: nothing if it has none, '' if no worker has
--         seen it yet
--
-- With another history the server may have lost what the last one had acknowledged, and with it versions of jobs. From
-- then on versions begin at the present moment: milliseconds since 2020, with room for 4096 changes in each, below 2^53;
-- and well above where they began before, should this server's clock be behind. Where there is an archive, it may have
-- greater numbers by now: that is to be asked before one is given (add.lua).

local schema = redis.call('GET', P .. 'schema')
local known = schema
if not schema and ARGV[2] == '' then return {'0', false} end

local function note(history)
    local known = redis.call('GET', P .. 'history')
    if known == history then return end
    go_through()
    redis.call('SET', P .. 'history', history)
    local time = redis.call('TIME')
    local base = ((time[1] - 1577836800) * 1000 + math.floor(time[2] / 1000)) * 4096
    local before = tonumber(redis.call('GET', P .. 'base') or '0')
    if not known then return end
    redis.call('SET', P .. 'base', string.format('%.0f', math.max(base, before + 2 ^ 32)))
    if redis.call('EXISTS', P .. 'archive') == 1 then redis.call('SET', P .. 'unsure', '1') end
end

local function begin_archive()
    if ARGV[3] ~= '' and redis.call('EXISTS', P .. 'archive') == 0 then
        go_through()
        redis.call('HSET', P .. 'archive', 'queue', ARGV[3])
        redis.pcall('XGROUP', 'CREATE', P .. 'stream', 'movers', '0', 'MKSTREAM')
        if known then redis.call('UNLINK', P .. 'turn:repair') end -- what has ended by now is entered into the stream
    end
end

if not schema then
    go_through()
    schema = ARGV[2]
    redis.call('SET', P .. 'schema', schema)
    redis.call('SET', P .. 'turn:repair', ARGV[1], 'PX', ARGV[4])
end
if tonumber(schema) <= tonumber(ARGV[2] == '' and schema or ARGV[2]) then
    note(ARGV[1])
    begin_archive()
end
if redis.call('EXISTS', P .. 'archive') == 0 then return {schema, false} end
return {schema, redis.call('HGET', P .. 'archive', 'shown') or ''}
