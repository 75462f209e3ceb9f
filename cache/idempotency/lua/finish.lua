-- Keeps the claim's outcome, if the key is still the claim's. For one id that may be
-- done any number of times: the first outcome stays.
--
-- KEYS[1]  see record.lua
-- ARGV[1]  the id of the claim
-- ARGV[2]  the outcome
-- ARGV[3]  how long the record is kept from now on, in ms
-- ARGV[4]  the channel on which to tell
--
-- Returns { 'held' }, { 'lost' }, or what record.lua says.
local r, failure = look()
if not r then return failure end
if r.id ~= ARGV[1] or not r.done and r.ends == 0 then return { 'lost' } end
if r.done then return { 'held' } end
redis.call('HSET', KEYS[1], 'outcome', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
tell(r, ARGV[4])
return { 'held' }
