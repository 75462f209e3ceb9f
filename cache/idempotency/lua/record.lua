-- A key's record as the other scripts see it. This text stands before each of them.
--
-- KEYS[1]  hash, absent while the key is free:
--            id       the claim that made it: one Reserve, whatever is sent for it
--            print    the fingerprint of the request
--            since    when the claim was made, in µs of Redis TIME
--            until    when its lease ends, in µs of Redis TIME; 0 if it was given up
--            outcome  there once the claim has finished
--            waits    there if somebody wants to be told of its end
-- KEYS[2]  string, there once the claim ARGV[1] was let go; only some scripts have it
--
-- A script that finds what none of them wrote returns { 'corrupt', why } and
-- changes nothing.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- Lua would write 1.76e+15; Redis must get every digit.
local function digits(n) return string.format('%.0f', n) end

-- The number in text; nil if it is none that a script wrote.
local function whole(text)
  local n = tonumber(text or nil)
  if n and n >= 0 and n <= 2 ^ 53 and n % 1 == 0 then return n end
end

-- The record: nil and what to return if it is corrupt, without an id if the key is
-- free. done says that there is an outcome, which is not read: it may be long.
local function look()
  local f = redis.pcall('HMGET', KEYS[1], 'id', 'print', 'since', 'until', 'waits')
  if f.err then return nil, f end
  local r = { id = f[1], print = f[2], since = whole(f[3]), ends = whole(f[4]), waits = f[5] }
  if r.id then
    if not r.print or not r.since or not r.ends then
      return nil, { 'corrupt', 'the record does not decode' }
    end
    r.done = redis.call('HEXISTS', KEYS[1], 'outcome') == 1
  elseif redis.call('EXISTS', KEYS[1]) == 1 then
    return nil, { 'corrupt', 'the record has no id' }
  end
  return r
end

-- Tells those who wait. Who may not publish has waiters that look for themselves.
local function tell(r, channel)
  if r.waits then redis.pcall('PUBLISH', channel, '') end
end
