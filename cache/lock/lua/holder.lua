-- Tells who holds the lock. It writes nothing.
--
-- KEYS     see lock.lua
-- ARGV[1]  empty
--
-- Returns { 'taken', ms left, -1 without a lifetime; token, since in µs, label },
-- { 'free' }, or what lock.lua says.
local l, failure = look()
if not l then return failure end
if not l.owner then return { 'free' } end
return { 'taken', redis.call('PTTL', KEYS[1]), l.token, l.since, l.label }
