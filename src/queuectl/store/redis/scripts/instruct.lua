-- Instruct a worker, if the registry has it.
--
-- uses: memory, notify
-- KEYS  the hash tag
-- ARGV  worker id, the instruction
-- Answers 1, or 0 if there is no such worker

bypass_maxmemory()
local known = redis.call('HEXISTS', P .. 'workers', ARGV[1])
if known == 1 then redis.call('HSET', P .. 'asked', ARGV[1], ARGV[2]) end
notify('work')
return known
