-- Ends the claim's lease at once, if the key is still the claim's: others then see
-- what they would see if its holder had died.
--
-- KEYS[1]  see record.lua
-- ARGV[1]  the id of the claim
-- ARGV[2]  how long the record is kept from now on, in ms
-- ARGV[3]  the channel on which to tell
--
-- Returns { 'held' }, { 'lost' }, or what record.lua says.
local r, failure = look()
if not r then return failure end
if r.id ~= ARGV[1] or r.done then return { 'lost' } end
redis.call('HSET', KEYS[1], 'until', '0')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
tell(r, ARGV[3])
return { 'held' }
