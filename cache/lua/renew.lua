-- Lets a lease last on, of a load or a writer.
--
-- KEYS[1]  lease, KEYS[2] the shard's hash
-- ARGV[1]  token, ARGV[2] how long it lasts from now, in ms
--
-- Returns 1, or 0 if it is lost.
local l = leased(KEYS[1])
if not l then return 0 end
if l.token ~= ARGV[1] and not string.find(' ' .. (l.writers or '') .. ' ', ' ' .. ARGV[1] .. ' ', 1, true) then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
