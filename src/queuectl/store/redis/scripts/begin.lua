-- The first words over a new connection: which queue this is, and whether the server is the one that it was.
--
-- KEYS  the hash tag
-- ARGV  the server's history (another one after a restart and after a failover), our schema or '' to make nothing, a fresh
--       name for the queue if it is to have an archive or '', for how many milliseconds a new queue need not be repaired
-- Answers the schema ('0' where there is no queue), and where its archive is: nothing if it has none, '' if no worker has
--         seen it yet

local schema = redis.call('GET', P .. 'schema')
local known = schema
if not schema and ARGV[2] == '' then return {'0', false} end

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
    note_history(ARGV[1])
    begin_archive()
end
if redis.call('EXISTS', P .. 'archive') == 0 then return {schema, false} end
return {schema, redis.call('HGET', P .. 'archive', 'shown') or ''}
