-- Makes the claim's lease last longer, if the key is still the claim's. A lease that
-- has ended comes back: as the key has the claim's id, nobody has had it meanwhile.
--
-- KEYS[1]  see record.lua
-- ARGV[1]  the id of the claim
-- ARGV[2]  how long the lease is from now on, in ms
-- ARGV[3]  how long the record is kept from now on, in ms
--
-- Returns { 'held' }, { 'lost' }, or what record.lua says.
local r, failure = look()
if not r then return failure end
if r.id ~= ARGV[1] then return { 'lost' } end
-- What comes late, when the claim has ended, changes nothing.
if r.done or r.ends == 0 then return { 'held' } end
redis.call('HSET', KEYS[1], 'until', digits(now + tonumber(ARGV[2]) * 1000))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return { 'held' }
