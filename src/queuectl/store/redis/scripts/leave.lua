-- Jobs of the archive that are to be deleted there: noted first, so that they are counted until they are gone.
--
-- KEYS  the hash tag
-- ARGV  number, id, state and queue of each
-- Answers the numbers that were noted: those that are not here or on their way here, and that nobody else deletes

local noted = {}
for i = 1, #ARGV, 4 do
    local number = ARGV[i]
    local note = cmsgpack.pack({id = ARGV[i + 1], state = ARGV[i + 2], queue = ARGV[i + 3]})
    local here = redis.call('EXISTS', P .. 'job:' .. number) + redis.call('HEXISTS', P .. 'purged', number)
    if here == 0 and redis.call('HSETNX', P .. 'leaving', number, note) == 1 then
        noted[#noted + 1] = number
    end
end
return noted
