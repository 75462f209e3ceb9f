-- Removes an entry. A load under way is not stored any more.
--
-- KEYS[1]  entry, KEYS[2] lease, KEYS[3] the shard's hash
-- ARGV[1]  name, ARGV[2] begins an epoch if need be
--
-- Returns { 1, n, epoch }.
local s = open(ARGV[2])
spoil(KEYS[2], ARGV[1])
redis.call('UNLINK', KEYS[1])
write(s, 'k', ARGV[1])
return { 1, s.n, s.e }
