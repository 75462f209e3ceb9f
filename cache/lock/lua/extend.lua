-- Makes the lock last longer, if the id still holds it.
--
-- KEYS     see lock.lua
-- ARGV[1]  the id of the acquire
-- ARGV[2]  how long the lock is to last from now on, in ms
-- ARGV[3]  how long the counter is to last from now on, in ms
--
-- Returns { 'held', token, since in µs }, { 'lost' }, or what lock.lua says.
local l, failure = look()
if not l then return failure end
if l.owner ~= ARGV[1] then return { 'lost' } end
prolong(l, tonumber(ARGV[2]))
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return { 'held', l.token, l.since }
