-- Gives the lease of a variant up; for a while nobody waits for it, if it cannot be kept.
--
-- KEYS[1]  lease, KEYS[2] the shard's hash
-- ARGV[1]  what to wake, ARGV[2] token, ARGV[3] for how many ms nobody waits; 0: the next
--          one makes it
local l = leased(KEYS[1])
if not l or l.token ~= ARGV[2] then return 0 end
if tonumber(ARGV[3]) > 0 then
  redis.call('SET', KEYS[1], 'P', 'PX', ARGV[3])
else
  redis.call('UNLINK', KEYS[1])
end
if l.waited then wake(ARGV[1]) end
return 1
