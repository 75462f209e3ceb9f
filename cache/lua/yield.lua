-- Gives the lease of a load up.
--
-- KEYS[1]  lease, KEYS[2] the shard's hash
-- ARGV[1]  name, ARGV[2] token, ARGV[3] for how many ms nobody is to load; 0: at once
-- ARGV[4]  tags of what was loaded
--
-- Returns 1 if what was loaded is current, that is, could have been stored.
local l = leased(KEYS[1])
if not l or l.token ~= ARGV[2] then return 0 end
if tonumber(ARGV[3]) > 0 then
  redis.call('SET', KEYS[1], 'L - ' .. digits(l.born) .. ' ' .. l.epoch .. ' 0', 'PX', ARGV[3])
else
  redis.call('UNLINK', KEYS[1])
end
if l.waited then wake(ARGV[1]) end
local s = look()
if l.born < (s and s.b or 0) or covered(s, ARGV[1], l.epoch, l.born, nil, ARGV[4]) then return 0 end
return 1
