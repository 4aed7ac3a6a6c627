-- The messages to the archiver, if the queue has an archive. `store/redis_archive/lifecycle.py` has the whole table.

local function has_archive()
    return redis.call('EXISTS', P .. 'archive') == 1
end

-- live → copying: a job that has ended is entered into the stream from which archivers read. The job's hash names its entry, so that
-- archive_ended.lua can check whether the job has one.
local is_archived = nil
local function send_to_archive(number, id, version)
    if is_archived == nil then is_archived = has_archive() end
    if not is_archived then return end
    local entry = redis.call('XADD', P .. 'stream', '*', 'number', number, 'version', version, 'id', id)
    redis.call('HSET', P .. 'job:' .. number, 'entry', entry)
end

-- → deleting: the archive may have a copy of a deleted job, or may get one from an archiver that has read the job before. `leaving` records
-- that the copy must be deleted (delete_done.lua). `gone` remembers the deletion for a day.
local function note_deletion(number, id, now)
    redis.call('HSET', P .. 'leaving', number, id)
    redis.call('ZADD', P .. 'gone', now, number)
end
