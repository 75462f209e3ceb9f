-- Tells where the shard's writes are.
--
-- KEYS[1]  the shard's hash
-- ARGV[1]  begins an epoch if need be
--
-- Returns { n, epoch }.
local s = open(ARGV[1])
return { s.n, s.e }
