-- Writes the hash of a job.

-- Write the fields of a new job that never change, and the indexes that depend on them.
local function create(number, job)
    redis.call('HSET', P .. 'job:' .. number, 'id', job.id, 'created_at', job.created_at, 'version', job.version,
        'spec', job.spec)
    if job.key then redis.call('HSET', P .. 'job:' .. number, 'key', job.key) end
    if job.marks then redis.call('HSET', P .. 'job:' .. number, 'marks', cmsgpack.pack(job.marks)) end
    redis.call('HSET', P .. 'ids', job.id, number)
    redis.call('ZADD', P .. 'names', 0, job.id)
    redis.call('ZADD', P .. 'created', number, number)
    for _, mark in ipairs(job.marks or {}) do
        redis.call('ZADD', P .. 'by:' .. mark, number, number)
    end
end

-- Write the fields of a job that can change. A field without a value is removed.
local CHANGING = {'state', 'queue', 'run_at', 'sort_key', 'updated_at', 'attempts', 'attempt_id', 'worker',
                  'claimed_at', 'lease_until', 'finished_at', 'rest', 'cause', 'progress'}
local function write(number, job)
    local fields, absent = {}, {}
    for _, name in ipairs(CHANGING) do
        if job[name] then
            fields[#fields + 1] = name
            fields[#fields + 1] = job[name]
        else
            absent[#absent + 1] = name
        end
    end
    redis.call('HSET', P .. 'job:' .. number, unpack(fields))
    if #absent > 0 then redis.call('HDEL', P .. 'job:' .. number, unpack(absent)) end
end
