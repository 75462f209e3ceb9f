-- Admits one request under every limit of a key, or under none.
--
-- KEYS[1]  sorted set: one member per admitted request (its id), scored with
--          the instant of admission in µs of Redis TIME
-- ARGV[1]  id of this request: a second run with the same id changes nothing
-- ARGV[2]  the longest window, in µs
-- ARGV[3…] pairs: a limit's window in µs, its number of requests
--
-- Returns { admitted (1 or 0), limit (0 = the first), remaining, now,
--           µs until remaining grows, µs until this request would be admitted }
local key, id, longest = KEYS[1], ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- Lua would write 1.76e+15; Redis must get every digit.
local function digits(n) return string.format('%.0f', n) end

-- What left the longest window counts nowhere. A key of another type holds no
-- admissions: it is replaced, else it would refuse or admit everybody for good.
local trimmed = redis.pcall('ZREMRANGEBYSCORE', key, '-inf', digits(now - longest))
if type(trimmed) == 'table' and trimmed.err then
  if not string.find(trimmed.err, 'WRONGTYPE', 1, true) then return trimmed end
  redis.call('DEL', key)
end
local total = redis.call('ZCARD', key)

local function within(window)
  if window == longest then return total end
  return redis.call('ZCOUNT', key, '(' .. digits(now - window), '+inf')
end

-- How long until the n-th admission of the window, oldest first, has left it; 0
-- if there is none.
local function leaves(window, n)
  local e = redis.call('ZRANGEBYSCORE', key, '(' .. digits(now - window), '+inf', 'WITHSCORES', 'LIMIT', n - 1, 1)
  return e[2] and tonumber(e[2]) + window - now or 0
end

local longestWait, least, shown = 0, nil, nil
for i = 3, #ARGV, 2 do
  local window, limit = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  local used = within(window)
  if used >= limit then
    -- Room comes when so many of the oldest have left that limit - 1 remain.
    local wait = leaves(window, used - limit + 1)
    if wait > longestWait then
      longestWait, shown = wait, { tier = (i - 3) / 2, window = window, remaining = 0 }
    end
  elseif longestWait == 0 and (not least or limit - used < least) then
    least = limit - used
    shown = { tier = (i - 3) / 2, window = window, remaining = least }
  end
end

if longestWait > 0 then
  -- Full, perhaps by this very request: its first run's reply was lost.
  if not redis.call('ZSCORE', key, id) then
    -- A denial changes nothing, but a key that lost its expiry gets it back.
    if redis.call('PTTL', key) < 0 then
      redis.call('PEXPIRE', key, math.ceil(longest / 1000) + 1)
    end
    return { 0, shown.tier, 0, now, longestWait, longestWait }
  end
elseif redis.call('ZADD', key, 'NX', digits(now), id) == 1 then
  shown.remaining = shown.remaining - 1
end
redis.call('PEXPIRE', key, math.ceil(longest / 1000) + 1)
return { 1, shown.tier, shown.remaining, now, leaves(shown.window, 1), 0 }
