-- Notifies waiting clients.

-- At most one message in 50 ms for each topic. The counter is for clients that poll. PUBLISH fails for a user who has no right to
-- the channel; the change is made anyway, and clients find it when they poll.
local function notify(topic)
    if redis.call('SET', P .. 'rang:' .. topic, '1', 'PX', 50, 'NX') then
        redis.call('HINCRBY', P .. 'bells', topic, 1)
        redis.pcall('PUBLISH', P .. 'bells', topic)
    end
end
