-- uses: event_ids, memory
--
-- Assigns versions of jobs, also after a failover.
--
-- The danger: a server that is promoted, restored from a backup or cut off may have lost changes that were acknowledged. If it had lost a
-- claim that raised a job's version from 3 to 4, the next claim would raise it from 3 to 4 once more, for another worker. The result of
-- the first worker, which was made for version 4, would then be accepted as the second worker's result (guarantee G3).
--
-- The invariant: no version that a lost change may have assigned is ever assigned again. `history` names the server process
-- (`run_id`) and its stream of writes (`master_replid`). Both are compared with the stored ones at the beginning of each connection
-- (open_queue.lua). If they differ, `base` becomes the present time, in milliseconds since 2020 times 4096, and no later version is
-- lower. Versions count changes, and no queue makes 4096 changes of one job in each millisecond, so all earlier versions lie below.
-- `base` also rises by 2^32 at least, in case the clock of the new server is behind. It stays below 2^53, the greatest exact double.
--
-- If there is an archive, it may have numbers of jobs which this server has lost. `unsure` makes add.lua refuse until
-- raise_number.lua has raised the counter above the greatest number of the archive.
--
-- Tests: test_archived_rollback.py, test_redis_failover.py, decision 18.

-- A reader may have seen events that are lost. Later events get greater ids than these, or the reader would pass over them. The ids are
-- milliseconds; 2^20 of them are 17 minutes, in case the clock of the new server is behind.
local function raise_event_ids(now)
    local last = greatest_event_id()
    if last == 0 then return end
    redis.call('XSETID', P .. 'events', string.format('%.0f-0', math.max(now + 2 ^ 20, last + 1)))
end

local function note_history(history)
    local known = redis.call('GET', P .. 'history')
    if known == history then return end
    bypass_maxmemory()
    redis.call('SET', P .. 'history', history)
    if not known then return end
    local time, before = redis.call('TIME'), tonumber(redis.call('GET', P .. 'base') or '0')
    local base = ((time[1] - 1577836800) * 1000 + math.floor(time[2] / 1000)) * 4096
    redis.call('SET', P .. 'base', string.format('%.0f', math.max(base, before + 2 ^ 32)))
    raise_event_ids(time[1] * 1000 + math.floor(time[2] / 1000))
    if redis.call('EXISTS', P .. 'archive') == 1 then redis.call('SET', P .. 'unsure', '1') end
end

-- A server may become a replica and then a primary again while a connection stays open. So every script that assigns a version or a
-- number compares the stream of writes once. The process is the same as long as the connection is open.
local is_checked = false
local function check_replication_history()
    if is_checked then return end
    is_checked = true
    local known = redis.call('GET', P .. 'history')
    local writes = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
    if not known or not writes or string.sub(known, -#writes) == writes then return end
    note_history((string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or '') .. ' ' .. writes)
end

-- Raise the version of a job by one, or to `base` if it would be lower. Returns the new version.
local least_version = nil
local function next_version(number)
    check_replication_history()
    if least_version == nil then least_version = redis.call('GET', P .. 'base') end
    local version = redis.call('HINCRBY', P .. 'job:' .. number, 'version', 1)
    if least_version and version < tonumber(least_version) then
        redis.call('HSET', P .. 'job:' .. number, 'version', least_version)
        return least_version
    end
    return string.format('%.0f', version)
end
