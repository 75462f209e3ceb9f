-- What the scripts on a shard's data share. All keys of one call have the shard's
-- hash tag; the shard's hash is always the last of KEYS.
--
-- The hash: "e" the shard's epoch, new whenever the hash was lost; "n" the number of
-- its last write; "f" the floor: what was born before it is invalid; "b" the barrier:
-- what was being loaded when it was raised is not stored; "p" the latest invalidations
-- by prefix, each "number length:prefix"; "sf" and "sp" are as "f" and "p", and make
-- stale what those make invalid.
--
-- An entry: "w1 born put epoch stored fresh cost flags tags\n" and its bytes. born is the
-- number of the last write that what it holds knows of, put that of the last one when it
-- was stored; stored and fresh, in ms of Redis TIME, say since and until when it is good;
-- cost is how many ms the load took.
--
-- A tag: "last since stale", the number of its last invalidation, that from which on none
-- has been forgotten, and that of the last time its entries were made stale.
--
-- A lease: "L token born epoch waited" of a load, or "W contended born epoch token…" of
-- writers through the cache.
local META = KEYS[#KEYS]
local ROOT = string.match(META, '^(.-):{')
local LIFE = 34560000000 -- 400 days

local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function digits(x) return string.format('%.0f', x) end

-- A key of another type is none: it is overwritten.
local function text(key)
  local v = redis.pcall('GET', key)
  return type(v) == 'string' and v or nil
end

local function look()
  local m = redis.pcall('HMGET', META, 'e', 'n', 'f', 'p', 'b', 'sf', 'sp')
  if m.err or not m[1] then return nil end
  return { e = m[1], n = tonumber(m[2]) or 0, f = tonumber(m[3]) or 0, p = m[4], b = tonumber(m[5]) or 0,
    sf = tonumber(m[6]) or 0, sp = m[7] }
end

-- The shard's state; id begins a new epoch if it is lost.
local function open(id)
  local s = look()
  if s then return s end
  redis.call('DEL', META)
  redis.call('HSET', META, 'e', id, 'n', 0)
  redis.call('PEXPIRE', META, LIFE)
  return { e = id, n = 0, f = 0, b = 0, sf = 0 }
end

-- One more write, of which all instances are told.
local function write(s, what, name)
  s.n = redis.call('HINCRBY', META, 'n', 1)
  redis.call('PEXPIRE', META, LIFE)
  redis.call('PUBLISH', ROOT .. ':news',
    string.match(META, '{(.-)}') .. ' ' .. s.e .. ' ' .. digits(s.n) .. ' ' .. what .. ' ' .. name)
end

local function wake(name) redis.call('PUBLISH', ROOT .. ':wake:' .. name, '') end

local function head(v)
  if not v then return nil end
  local born, put, epoch, fresh, cost, tags = string.match(v, '^w1 (%d+) (%d+) (%S+) %d+ (%d+) (%d+) %S+ (%S*)\n')
  if not born then return nil end
  return { born = tonumber(born), put = tonumber(put), epoch = epoch, fresh = tonumber(fresh), cost = tonumber(cost), tags = tags }
end

local function tagged(tag) return string.sub(META, 1, -2) .. 't:' .. tag end

local function record(tag)
  local last, since, stale = string.match(text(tagged(tag)) or '', '^(%d+) (%d+) (%d+)$')
  return tonumber(last), tonumber(since), tonumber(stale)
end

-- Whether one of the prefixes of a list begins name, in an invalidation since born.
local function prefixed(list, name, born)
  local at = 1
  while list and at <= #list do
    local number, length, from = string.match(list, '^(%d+) (%d+):()', at)
    at = from + length
    local prefix = string.sub(list, from, at - 1)
    if born < tonumber(number) and string.sub(name, 1, #prefix) == prefix then return true end
  end
  return false
end

-- Whether an invalidation since born covers what has this name and these tags. put is
-- nil before it is stored.
local function covered(s, name, epoch, born, put, tags)
  if not s or epoch ~= s.e or born < s.f or prefixed(s.p, name, born) then return true end
  for tag in string.gmatch(tags, '[^,]+') do
    local last, since = record(tag)
    if last and last > born or put and (not since or since > put) then return true end
  end
  return false
end

-- Whether what is valid was made stale since born.
local function softened(s, name, born, tags)
  if born < s.sf or prefixed(s.sp, name, born) then return true end
  for tag in string.gmatch(tags, '[^,]+') do
    local _, _, stale = record(tag)
    if stale and stale > born then return true end
  end
  return false
end

-- An entry's text. ARGV[3] to ARGV[8] are those of fill.lua. It sees to it that its tags
-- are known as long.
local function compose(s, born, at)
  for tag in string.gmatch(ARGV[7], '[^,]+') do
    if not record(tag) then
      redis.call('SET', tagged(tag), '0 ' .. digits(s.n) .. ' 0', 'PX', ARGV[4])
    elseif redis.call('PTTL', tagged(tag)) < tonumber(ARGV[4]) then
      redis.call('PEXPIRE', tagged(tag), ARGV[4])
    end
  end
  return 'w1 ' .. digits(born) .. ' ' .. digits(s.n) .. ' ' .. s.e .. ' ' .. digits(at) .. ' '
    .. digits(at + ARGV[3]) .. ' ' .. ARGV[5] .. ' ' .. ARGV[6] .. ' ' .. ARGV[7] .. '\n' .. ARGV[8]
end

local function put(s, born, at) redis.call('SET', KEYS[1], compose(s, born, at), 'PX', ARGV[4]) end

local function leased(key)
  local v = text(key)
  if not v then return nil end
  local token, born, epoch, waited = string.match(v, '^L (%S+) (%d+) (%S+) (%d)$')
  if token then return { token = token, born = tonumber(born), epoch = epoch, waited = waited == '1' } end
  local contended, tokens
  contended, born, epoch, tokens = string.match(v, '^W (%d) (%d+) (%S+) (.*)$')
  if contended then return { writers = tokens, contended = contended == '1', born = tonumber(born), epoch = epoch } end
  return nil
end

-- An invalidation ends a load, and spoils what a writer is about to store.
local function spoil(key, name)
  local l = leased(key)
  if not l then return end
  if l.writers then
    redis.call('SET', key, 'W 1 ' .. digits(l.born) .. ' ' .. l.epoch .. ' ' .. l.writers, 'KEEPTTL')
  else
    redis.call('UNLINK', key)
    if l.waited then wake(name) end
  end
end
