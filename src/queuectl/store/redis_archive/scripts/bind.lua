-- Which queue an archive is to belong to, and that it does.
--
-- KEYS  the hash tag
-- ARGV  nothing to ask; or the mark of an archive that is known to be this queue's, and its URL without password
-- Answers the queue's name, the mark of the archive that it is bound to and that one's URL, or nothing for these: another
--         archive than was named if somebody was faster

if ARGV[1] then
    local mark = redis.call('HGET', P .. 'archive', 'mark')
    if not mark or mark == ARGV[1] then
        go_through()
        redis.call('HSET', P .. 'archive', 'mark', ARGV[1], 'shown', ARGV[2])
    end
end
return redis.call('HMGET', P .. 'archive', 'queue', 'mark', 'shown')
