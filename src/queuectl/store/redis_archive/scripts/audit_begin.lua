-- A piece of the archive is to be read and counted: what changes in it from now on is noted.
--
-- KEYS  the hash tag
-- ARGV  a name for this run, '1' to mend or '0' to count only, the number that was reached (zeros to begin), the last number
--       of the piece
-- Answers 1, or 0 if another one counts

go_through()
if not counts_on('past_counts', ARGV[1], ARGV[2] == '1', ARGV[3]) then return 0 end
reach('past_counts', ARGV[1], ARGV[3], ARGV[4])
return 1
