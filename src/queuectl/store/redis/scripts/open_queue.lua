-- The first script of each connection: finds the queue, and checks whether the server may have lost writes.
--
-- uses: archive, history, memory
-- KEYS  the hash tag
-- ARGV  the server's history (it changes with a restart and with a failover), our schema or '' to create nothing, a new name
--       for the queue if it is to have an archive or ''
-- Answers the schema ('0' where there is no queue), and the archive's URL: nothing if the queue has no archive, '' if no worker
--         has reached it yet

local schema = redis.call('GET', P .. 'schema')
if not schema and ARGV[2] == '' then return {'0', false} end

-- A queue that gets an archive may have ended jobs. The first reconciliation enters them into the stream (archive_ended.lua).
local function begin_archive()
    if ARGV[3] ~= '' and not has_archive() then
        bypass_maxmemory()
        redis.call('HSET', P .. 'archive', 'queue', ARGV[3])
        redis.pcall('XGROUP', 'CREATE', P .. 'stream', 'movers', '0', 'MKSTREAM')
    end
end

if not schema then
    bypass_maxmemory()
    schema = ARGV[2]
    redis.call('SET', P .. 'schema', schema)
end
if tonumber(schema) <= tonumber(ARGV[2] == '' and schema or ARGV[2]) then
    note_history(ARGV[1])
    begin_archive()
end
if not has_archive() then return {schema, false} end
return {schema, redis.call('HGET', P .. 'archive', 'shown') or ''}
