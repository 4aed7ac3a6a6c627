-- A piece of the archive is to be read and counted: what changes in it from now on is noted.
--
-- KEYS  the hash tag
-- ARGV  the number that was reached (zeros to begin), the last number of the piece
-- Answers 1, or 0 if another one counts now

go_through()
if not counts_on('past_counts', ARGV[1]) then return 0 end
reach('past_counts', ARGV[1], ARGV[2])
return 1
