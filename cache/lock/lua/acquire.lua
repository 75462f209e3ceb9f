-- Takes the lock if it is free. For one id that may be done any number of times: it
-- is taken once, and every answer is that of the first.
--
-- KEYS     see lock.lua
-- ARGV[1]  the id of the acquire
-- ARGV[2]  how long the lock is to last, in ms
-- ARGV[3]  how long the counter is to last, in ms
-- ARGV[4]  what the holder calls itself
-- ARGV[5]  1 if the caller waits, should the lock be taken; 2 if others wait besides,
--          who must be told of this acquire's own end; else 0
--
-- ARGV[6]  the latest instant, in µs of Redis TIME, at which the caller may still be
--          waiting for the answer; 0 if it does not know Redis's clock
--
-- Returns { 'held', token, since in µs, this instant if it was taken now, else 0 },
-- { 'taken', ms left }, { 'gone' } if the id was given up, { 'late', this instant in
-- µs } if nobody waits any more, or what lock.lua says.
local l, failure = look()
if not l then return failure end
local ttl, waits = tonumber(ARGV[2]), tonumber(ARGV[5])
if l.owner == ARGV[1] then
  prolong(l, ttl)
  if waits == 2 then redis.call('HSET', KEYS[1], 'waits', '1') end
  return { 'held', l.token, l.since, 0 }
end
if l.owner then
  if waits > 0 and not l.waits then redis.call('HSET', KEYS[1], 'waits', '1') end
  return { 'taken', left(l) }
end
if l.gone then return { 'gone' } end
local token, corrupt = last()
if not token then return corrupt end
-- The time is the base, so that tokens grow when the counter was lost; the counter
-- is what they grow by when the clock was set back.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- A server that was stopped, or busy, finds the commands of callers who have left.
local latest = tonumber(ARGV[6])
if latest > 0 and now > latest then return { 'late', now } end
token = math.max(token + 1, now)
if token > MOST then return { 'corrupt', 'the counter is too large' } end
take(token, token, now, ttl, tonumber(ARGV[3]), ARGV[4], waits == 2)
return { 'held', token, now, now }
