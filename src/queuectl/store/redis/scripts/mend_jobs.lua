-- Put jobs into the indexes in which they belong.
--
-- KEYS  the hash tag
-- ARGV  '1' to mend or '0' to count only, then numbers; the caller sends some hundreds
-- Answers how many jobs stood in the wrong place

local function stands(index, number)
    return redis.call('ZSCORE', P .. index, number)
end

-- Where a job belongs, by what its hash says: index and score.
local function places(number, job)
    local found = {{'created', number}, {'updated', job.updated_at}, {'next', job.sort_key}, {'state:' .. job.state, number}}
    if job.state == 'processing' then found[#found + 1] = {'leased', job.lease_until} end
    return found
end

local function in_line(number, job)
    if job.state ~= 'pending' and job.state ~= 'failed' then return true end
    return stands('ready:' .. job.queue, number) or stands('delayed', number)
        or redis.call('HEXISTS', P .. 'arriving', number) == 1
end

local function mend(number)
    local values, job = redis.call('HMGET', P .. 'job:' .. number, unpack(FIELDS)), {}
    if not values[1] then return 0 end
    for i, name in ipairs(FIELDS) do job[name] = values[i] end
    local wrong = false
    for _, place in ipairs(places(number, job)) do
        local score = stands(place[1], number)
        if not score or tonumber(score) ~= tonumber(place[2]) then
            wrong = true
            if ARGV[1] == '1' then redis.call('ZADD', P .. place[1], place[2], number) end
        end
    end
    if redis.call('HGET', P .. 'ids', job.id) ~= number then
        wrong = true
        if ARGV[1] == '1' then
            redis.call('HSET', P .. 'ids', job.id, number)
            redis.call('ZADD', P .. 'names', 0, job.id)
        end
    end
    if not in_line(number, job) then
        wrong = true
        if ARGV[1] == '1' then line_up(number, job.queue, job.run_at, job.sort_key, clock('')) end
    end
    return wrong and 1 or 0
end

local sum = 0
for i = 2, #ARGV do sum = sum + mend(ARGV[i]) end
return sum
