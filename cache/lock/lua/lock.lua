-- A lock as the other scripts see it. This text stands before each of them.
--
-- KEYS[1]  hash, absent while the lock is free:
--            owner  who holds it: the id of one acquire, whatever is sent for it
--            token  its fencing token
--            since  when it was taken, in µs of Redis TIME
--            ttl    how long it lasts from the latest acquire or extend, in ms
--            label  what the holder calls itself
--            waits  there if somebody wants to be told of its end
-- KEYS[2]  string: the last token that was given out
-- KEYS[3]  string, there once the id ARGV[1] has been given up
--
-- ARGV[1]  the id of the acquire
--
-- A script that finds what none of them wrote returns { 'corrupt', why } and
-- changes nothing.
local MOST = 2 ^ 53

-- Lua would write 1.76e+15; Redis must get every digit.
local function digits(n) return string.format('%.0f', n) end

-- The number in text; nil if it is none that a script wrote.
local function whole(text)
  local n = tonumber(text or nil)
  if n and n >= 0 and n <= MOST and n % 1 == 0 then return n end
end

-- The lock: nil and what to return if it is corrupt, without an owner if it is free.
local function look()
  local f = redis.pcall('HMGET', KEYS[1], 'owner', 'token', 'since', 'ttl', 'label', 'waits')
  if f.err then return nil, f end -- another type
  local l = { owner = f[1], token = whole(f[2]), since = whole(f[3]), ttl = whole(f[4]), label = f[5], waits = f[6] }
  if l.owner then
    if not l.token or not l.since or not l.ttl or l.ttl < 1 or not l.label then
      return nil, { 'corrupt', 'the lock does not decode' }
    end
  elseif redis.call('EXISTS', KEYS[1], KEYS[3]) > 0 then
    if redis.call('EXISTS', KEYS[1]) == 1 then return nil, { 'corrupt', 'the lock has no owner' } end
    l.gone = true -- the id was given up
  end
  return l
end

-- How long the lock lasts, in ms. If somebody has taken its lifetime off (PERSIST),
-- nobody knows when its holder ends: it gets a whole one, which outlasts whatever
-- the holder was promised, and then it is free.
local function left(l)
  local ms = redis.call('PTTL', KEYS[1])
  if ms == -1 then
    ms = l.ttl
    redis.call('PEXPIRE', KEYS[1], digits(ms))
  end
  return ms
end

-- Makes the lock of this owner last for at least ttl. It never shortens: what
-- comes late, from an attempt that was given up, must not take away what a later
-- one has promised.
local function prolong(l, ttl)
  if left(l) >= ttl then return end
  redis.call('PEXPIRE', KEYS[1], digits(ttl))
  -- For memory's sake this may be refused; the lock itself is prolonged.
  if ttl ~= l.ttl then redis.pcall('HSET', KEYS[1], 'ttl', digits(ttl)) end
end

-- The last token, 0 if it is not known; nil and what to return if it is corrupt.
local function last()
  local text = redis.pcall('GET', KEYS[2])
  if not text then return 0 end
  if text.err then return nil, text end
  local token = whole(text)
  if not token then return nil, { 'corrupt', 'the counter is no number' } end
  return token
end

-- Takes the free lock, and lets the counter stand at count.
local function take(token, count, since, ttl, lifetime, label, waits)
  -- The counter goes first: what fails between leaves no lock without a lifetime.
  redis.call('SET', KEYS[2], digits(count), 'PX', digits(lifetime))
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'token', digits(token), 'since', digits(since), 'ttl', digits(ttl), 'label', label)
  redis.call('PEXPIRE', KEYS[1], digits(ttl))
  if waits then redis.call('HSET', KEYS[1], 'waits', '1') end
end
