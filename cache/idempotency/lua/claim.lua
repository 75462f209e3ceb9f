-- Claims the key if it is free, and else says what is known of it. For one id that
-- may be done any number of times.
--
-- KEYS     see record.lua
-- ARGV[1]  the id of the claim
-- ARGV[2]  the fingerprint of the request
-- ARGV[3]  how long the lease is, in ms
-- ARGV[4]  how long the record is kept, in ms
-- ARGV[5]  1 if a key whose holder has died is claimed anew, else 0
-- ARGV[6]  1 if the caller waits, should the key be in flight, else 0
-- ARGV[7]  until when the caller waits for the answer, in µs of Redis TIME; 0 if it
--          does not know that clock
--
-- Returns { 'claimed', now }, { 'kept', now, since, outcome }, { 'busy', now, since,
-- ms left }, { 'differs', now, since }, { 'interrupted', now, since }, { 'late', now }
-- if the caller has left, { 'gone', now } if the claim was let go, or what record.lua
-- says. Instants are in µs.
local r, failure = look()
if not r then return failure end
local lease, ttl = tonumber(ARGV[3]), ARGV[4]
if r.id and redis.call('PTTL', KEYS[1]) == -1 then
  redis.call('PEXPIRE', KEYS[1], ttl) -- somebody has taken its lifetime off
end
if r.id and r.id ~= ARGV[1] then
  if r.print ~= ARGV[2] then return { 'differs', now, r.since } end
  if r.done then return { 'kept', now, r.since, redis.call('HGET', KEYS[1], 'outcome') } end
  if r.ends > now then
    if ARGV[6] == '1' and not r.waits then redis.call('HSET', KEYS[1], 'waits', '1') end
    return { 'busy', now, r.since, math.ceil((r.ends - now) / 1000) }
  end
  if ARGV[5] ~= '1' then return { 'interrupted', now, r.since } end
end
-- What comes late, when the claim has ended, changes nothing.
if r.id == ARGV[1] and (r.done or r.ends == 0) then return { 'claimed', now } end
-- A claim that nobody knows of would look like one whose holder has died.
local deadline = tonumber(ARGV[7])
if deadline > 0 and now > deadline then return { 'late', now } end
if redis.call('EXISTS', KEYS[2]) == 1 then return { 'gone', now } end
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'print', ARGV[2], 'since', digits(now), 'until', digits(now + lease * 1000))
redis.call('PEXPIRE', KEYS[1], ttl)
return { 'claimed', now }
