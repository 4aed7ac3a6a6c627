-- Announce a piece of the archive before it is read. Then changes of its jobs are recorded (archived_counts.lua).
--
-- uses: archived_counts, memory
-- KEYS  the hash tag
-- ARGV  the name of this run, '1' to repair or '0' to compare only, the last number of the previous piece (zeros at first), the
--       last number of this piece
-- Answers 1, or 0 if another run has displaced this one

bypass_maxmemory()
if not may_recount(ARGV[1], ARGV[2] == '1', ARGV[3]) then return 0 end
set_progress(ARGV[1], ARGV[3], ARGV[4])
return 1
