-- Frees the lock, if the id holds it, and tells those who wait.
--
-- KEYS     see lock.lua
-- ARGV[1]  the id of the acquire
-- ARGV[2]  the channel on which to tell
-- ARGV[3]  how long to remember that the id was given up, in ms; 0: no acquire of it
--          can come late
-- ARGV[4]  there if this is the second run: the first may have freed the lock
--
-- Returns { 'freed' }, { 'lost' }, or what lock.lua says.
local l, failure = look()
if not l then return failure end
if ARGV[3] ~= '0' then redis.call('SET', KEYS[3], '1', 'PX', ARGV[3]) end
if l.owner ~= ARGV[1] then return { ARGV[4] and 'freed' or 'lost' } end
redis.call('DEL', KEYS[1])
-- Who may not publish has waiters that look for themselves.
if l.waits then redis.pcall('PUBLISH', ARGV[2], digits(l.token)) end
return { 'freed' }
