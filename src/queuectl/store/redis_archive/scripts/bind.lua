-- Bind the queue to an archive, or ask to which archive it is bound.
--
-- uses: memory
-- KEYS  the hash tag
-- ARGV  nothing to ask; or the mark of an archive that carries this queue's name, and its URL without password
-- Answers the queue's name, and mark and URL of the archive that it is bound to, or nothing for these; if another process has bound
--         it first, those of the other archive

if ARGV[1] then
    local mark = redis.call('HGET', P .. 'archive', 'mark')
    if not mark or mark == ARGV[1] then
        bypass_maxmemory()
        redis.call('HSET', P .. 'archive', 'mark', ARGV[1], 'shown', ARGV[2])
    end
end
return redis.call('HMGET', P .. 'archive', 'queue', 'mark', 'shown')
