-- Of the jobs that were noted to leave, the archive still had these: now they are to be deleted for certain. The others
-- were gone before; somebody else has struck them off.
--
-- KEYS  the hash tag
-- ARGV  '1' or '0' and the number of each

for i = 1, #ARGV, 2 do
    local note = redis.call('HGET', P .. 'leaving', ARGV[i + 1])
    if note and ARGV[i] == '1' then
        local job = cmsgpack.unpack(note)
        job.sure = true
        redis.call('HSET', P .. 'leaving', ARGV[i + 1], cmsgpack.pack(job))
    elseif note then
        redis.call('HDEL', P .. 'leaving', ARGV[i + 1])
    end
end
