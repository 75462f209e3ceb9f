-- Lets the key go, if it is still the claim's and has no outcome, and sees to it that
-- no command of the claim that comes late takes it again.
--
-- KEYS     see record.lua
-- ARGV[1]  the id of the claim
-- ARGV[2]  how long to remember that the claim was let go, in ms
-- ARGV[3]  the channel on which to tell
-- ARGV[4]  there if this is the second run: the first may have let the key go
--
-- Returns { 'held' }, { 'lost' }, or what record.lua says.
local r, failure = look()
if not r then return failure end
redis.call('SET', KEYS[2], '1', 'PX', ARGV[2])
if r.id ~= ARGV[1] or r.done then return { ARGV[4] and not r.done and 'held' or 'lost' } end
redis.call('DEL', KEYS[1])
tell(r, ARGV[3])
return { 'held' }
