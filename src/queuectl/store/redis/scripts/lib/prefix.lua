-- The prefix of every key. This library is put before each script.
--
-- KEYS[1] is the hash tag, such as {queuectl}. Every key of the queue begins with it, so all of them are in one slot of a cluster
-- and one script may use them all.

local P = KEYS[1] .. ':'
