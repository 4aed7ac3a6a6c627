-- Lets scripts continue when memory is full.

-- Redis compares its memory with `maxmemory` only at the first write of a script. With UNLINK, which is always allowed, as the first
-- write the rest of the script runs in any case. Scripts that end, move or delete jobs need that, because only they make room. A script
-- calls this only if it changes something: the call is a write, which a replica and the log receive too.
local function bypass_maxmemory()
    redis.call('UNLINK', P .. 'nothing')
end
