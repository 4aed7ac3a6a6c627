-- Waking those who wait.

-- At most one message in 50 ms. The counter is for clients that poll. PUBLISH may be refused to a user who has no right to the channel;
-- the change is made all the same, and clients find it when they poll.
local function notify(topic)
    if redis.call('SET', P .. 'rang:' .. topic, '1', 'PX', 50, 'NX') then
        redis.call('HINCRBY', P .. 'bells', topic, 1)
        redis.pcall('PUBLISH', P .. 'bells', topic)
    end
end
