-- Which queue an archive is to belong to, and that it does.
--
-- KEYS  the hash tag
-- ARGV  nothing to ask; or the archive's URL without password, once it is known to be this queue's
-- Answers the queue's name, and the URL of the archive that it is bound to or nothing

if ARGV[1] then
    go_through()
    redis.call('HSET', P .. 'archive', 'shown', ARGV[1])
end
return redis.call('HMGET', P .. 'archive', 'queue', 'shown')
