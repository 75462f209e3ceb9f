-- Lets a lease last on, of a load or a writer.
--
-- KEYS[1]  lease, KEYS[2] the shard's hash
-- ARGV[1]  token, ARGV[2] how long it lasts from now, in ms
--
-- Returns 1, or 0 if it is lost.
local l = leased(KEYS[1])
local w = writer(l, ARGV[1])
if w then
  w.ends = now() + ARGV[2]
  hold(KEYS[1], l)
  return 1
end
if not l or l.token ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
