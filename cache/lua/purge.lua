-- Removes a resource with all its variants, or makes them stale.
--
-- KEYS[1]  the resource, KEYS[2] the shard's hash
-- ARGV[1]  begins an epoch if need be
-- ARGV[2]  for how many ms at the least it must be remembered, for what is being made
-- ARGV[3]  1 to make stale, 0 to remove
--
-- Returns { 1, n, epoch }.
local s = open(ARGV[1])
write(s, 'r', string.match(KEYS[1], '[^:]*$'))
local left = 0
if ARGV[3] == '1' and redis.call('TYPE', KEYS[1]).ok == 'hash' then
  left = redis.call('PTTL', KEYS[1])
  redis.call('HSET', KEYS[1], 's', s.n)
else
  redis.call('UNLINK', KEYS[1])
  redis.call('HSET', KEYS[1], 'd', s.n)
end
redis.call('PEXPIRE', KEYS[1], digits(math.max(left, tonumber(ARGV[2]))))
return { 1, s.n, s.e }
