-- The states of a job.

local function has_ended(state)
    return state == 'completed' or state == 'dead' or state == 'cancelled'
end

local function waits_to_run(state)
    return state == 'pending' or state == 'failed'
end
