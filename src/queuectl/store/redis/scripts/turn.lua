-- Whether to look through everything now: one of all workers does, once in a while, and again when the server's history is
-- another one, as it is when something may have been lost.
--
-- KEYS  the hash tag
-- ARGV  what is to be looked through, for how many milliseconds nobody else begins
-- Answers 1 if it is the caller's turn

local turn, history = P .. 'turn:' .. ARGV[1], redis.call('GET', P .. 'history') or ''
if redis.call('GET', turn) == history then return 0 end
go_through()
redis.call('SET', turn, history, 'PX', ARGV[2])
return 1
