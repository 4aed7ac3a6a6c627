-- Jobs that the archive has deleted: now they count no more, and their ids are free.
--
-- KEYS  the hash tag
-- ARGV  their numbers

for _, number in ipairs(ARGV) do
    local note = redis.call('HGET', P .. 'leaving', number)
    if note then
        local job = cmsgpack.unpack(note)
        redis.call('HDEL', P .. 'leaving', number)
        redis.call('ZREM', P .. 'past', job.id)
        count(job.state, job.queue, -1)
    end
end
