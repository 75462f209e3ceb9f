-- Brings one server of a Redlock to what the majority has decided: the id holds the
-- lock, with this token. A server that has lost the lock, or was not there when it
-- was taken, takes it now, if nobody else holds it.
--
-- KEYS     see lock.lua
-- ARGV[1]  the id of the acquire
-- ARGV[2]  how long the lock is to last from now on, in ms
-- ARGV[3]  how long the counter is to last from now on, in ms
-- ARGV[4]  what the holder calls itself
-- ARGV[5]  1 if somebody wants to be told when the lock ends
-- ARGV[6]  the token
-- ARGV[7]  when the lock was taken, in µs
--
-- Returns { 'held', token, since in µs }, { 'taken', ms left }, { 'gone' } if the id
-- was given up, or what lock.lua says.
local l, failure = look()
if not l then return failure end
local ttl, lifetime, token, since = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[6]), tonumber(ARGV[7])
if l.owner and l.owner ~= ARGV[1] then return { 'taken', left(l) } end
if l.gone then return { 'gone' } end
local known, corrupt = last()
if not known then return corrupt end
if l.owner then
  redis.call('SET', KEYS[2], digits(math.max(known, token)), 'PX', digits(lifetime))
  redis.call('HSET', KEYS[1], 'token', digits(token))
  prolong(l, ttl)
else
  take(token, math.max(known, token), since, ttl, lifetime, ARGV[4], ARGV[5] == '1')
end
return { 'held', token, since }
