-- uses: counts, ready, sets
--
-- Changes a batch of jobs.

-- Call a function that changes some jobs, and write the indexes of all of them at the end. If it fails for one job, the jobs before that
-- one have their indexes anyway.
local function change_batch(change)
    gather()
    local done, why = pcall(change)
    write_sets()
    update_changed_heads()
    write_counts()
    if not done then error(why, 0) end
end
