-- No number is given again that the archive knows: the queue may have been set back in time.
--
-- KEYS  the hash tag
-- ARGV  the greatest number that the archive has
-- Answers 1 if numbers go on behind it now, 0 if they do anyway

if tonumber(redis.call('GET', P .. 'number') or '0') >= tonumber(ARGV[1]) then return 0 end
go_through()
redis.call('SET', P .. 'number', string.format('%.0f', tonumber(ARGV[1])))
return 1
