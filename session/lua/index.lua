-- What all scripts on the sessions of one user begin with.
--
-- KEYS[1]  ids: sorted set of session ids, scored with the instant in ms after
--          which the entry may be forgotten. Who is in it is alive.
-- KEYS[2]  info: hash, id -> "<created ms>.<seen ms>.<blob>"
--
-- Time is Redis's. A script reads all keys it will write before its first write,
-- so that one of another type fails it whole.
local ids, info = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local CHUNK = 1000 -- unpack takes some thousands
local PURGED = 100 -- at most so many per call where no limit bounds them
local HOUR, MINUTE = 3600000, 60000

-- Lua would write 1.76e+12; Redis must get every digit.
local function digits(n) return string.format('%.0f', n) end

-- The instant of creation in an entry of info; nil if it is missing or not ours.
local function created(value)
  return value and string.match(value, '^(%d+)%.%d+%.')
end

-- Writes an entry, new or again. The ZADD is the first write of its scripts: one
-- that Redis refuses when it is out of memory, or all that follow would pass.
local function put(id, blob, life, born, alone)
  redis.call('ZADD', ids, digits(now + life), id)
  if alone then redis.call('UNLINK', info) end -- what it held was nobody's
  redis.call('HSET', info, id, (born or digits(now)) .. '.' .. digits(now) .. '.' .. blob)
end

-- Ids past their score, the oldest first; most of them, or all with -1.
local function past(most)
  return redis.call('ZRANGEBYSCORE', ids, '-inf', digits(now), 'LIMIT', 0, most)
end

-- Removes entries from both keys.
local function forget(list)
  for i = 1, #list, CHUNK do
    local last = math.min(i + CHUNK - 1, #list)
    redis.call('ZREM', ids, unpack(list, i, last))
    redis.call('HDEL', info, unpack(list, i, last))
  end
end

-- Ends every script that wrote: both keys live as long as their last entry, also
-- if somebody took their expiry away, and neither without the other.
local function settle()
  local last = redis.call('ZRANGE', ids, -1, -1, 'WITHSCORES')[2]
  if not last then
    redis.call('UNLINK', info)
    return
  end
  redis.call('PEXPIREAT', ids, digits(tonumber(last)))
  redis.call('PEXPIREAT', info, digits(tonumber(last)))
end
