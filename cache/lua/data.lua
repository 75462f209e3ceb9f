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
-- A lease: "L token born epoch waited" of a load, with the token "-" once it has failed,
-- or "W contended born epoch token:end…" of writers through the cache, each with its end
-- in ms of Redis TIME. "P" says that nobody is to wait for what is being made.
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

-- What is digits, as a number that a double holds, or nil.
local function whole(v) return v and #v < 16 and tonumber(v) end

-- A field of the hash as a number, 0 without it, or nil if it is none.
local function field(v)
  if not v then return 0 end
  return not string.find(v, '%D') and whole(v)
end

-- The latest invalidations by prefix, or nil for what cannot be.
local function prefixes(list)
  local all, at = {}, 1
  while at <= #list do
    local number, length, from = string.match(list, '^(%d+) (%d+):()', at)
    number, length = whole(number), whole(length)
    if not number or not length or from + length > #list + 1 then return nil end
    at = from + length
    all[#all + 1] = { n = number, prefix = string.sub(list, from, at - 1) }
  end
  return all
end

-- The shard's state; nil if it is lost, or nothing that a script has left.
local function look()
  local m = redis.pcall('HMGET', META, 'e', 'n', 'f', 'p', 'b', 'sf', 'sp')
  if m.err or not m[1] or m[1] == '' or string.find(m[1], '%s') then return nil end
  local n, f, p, b = m[2] and field(m[2]), field(m[3]), prefixes(m[4] or ''), field(m[5])
  local sf, sp = field(m[6]), prefixes(m[7] or '')
  if not (n and f and p and b and sf and sp) then return nil end
  return { e = m[1], n = n, f = f, p = p, b = b, sf = sf, sp = sp }
end

-- The shard's state; id begins a new epoch if it is lost.
local function open(id)
  local s = look()
  if s then return s end
  redis.call('DEL', META)
  redis.call('HSET', META, 'e', id, 'n', 0)
  redis.call('PEXPIRE', META, LIFE)
  return { e = id, n = 0, f = 0, p = {}, b = 0, sf = 0, sp = {} }
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
  local born, put, epoch, stored, fresh, cost, flags, tags =
    string.match(v, '^w1 (%d+) (%d+) (%S+) (%d+) (%d+) (%d+) (%S+) (%S*)\n')
  local id = put
  born, put, fresh, cost = whole(born), whole(put), whole(fresh), whole(cost)
  if not (born and put and fresh and cost) or #stored > 15 then return nil end
  return { id = id, born = born, put = put, epoch = epoch, fresh = fresh, cost = cost, flags = flags, tags = tags }
end

local function tagged(tag) return string.sub(META, 1, -2) .. 't:' .. tag end

local function record(tag)
  local last, since, stale = string.match(text(tagged(tag)) or '', '^(%d+) (%d+) (%d+)$')
  last, since, stale = whole(last), whole(since), whole(stale)
  if last and since and stale then return last, since, stale end
end

-- Whether one of the prefixes of a list begins name, in an invalidation since born.
local function prefixed(list, name, born)
  for _, k in ipairs(list) do
    if born < k.n and string.sub(name, 1, #k.prefix) == k.prefix then return true end
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
  if whole(born) then return { token = token, born = whole(born), epoch = epoch, waited = waited == '1', failed = token == '-' } end
  local contended, tokens
  contended, born, epoch, tokens = string.match(v, '^W (%d) (%d+) (%S+) (.*)$')
  if not whole(born) then return nil end
  local at, writers = now(), {}
  for token, ends in string.gmatch(tokens, '(%S+):(%d+)') do
    -- The others have died, or lost their lease: they hold nobody up.
    if (whole(ends) or 0) > at then writers[#writers + 1] = { token = token, ends = whole(ends) } end
  end
  if #writers == 0 then return nil end
  return { writers = writers, contended = contended == '1', born = whole(born), epoch = epoch }
end

-- Writes a lease of writers, which ends with the last of them.
local function hold(key, l)
  local list, last = '', 0
  for _, w in ipairs(l.writers) do
    list, last = list .. ' ' .. w.token .. ':' .. digits(w.ends), math.max(last, w.ends)
  end
  redis.call('SET', key, 'W ' .. (l.contended and 1 or 0) .. ' ' .. digits(l.born) .. ' ' .. l.epoch .. list,
    'PX', digits(math.max(last - now(), 1)))
end

local function writer(l, token)
  for _, w in ipairs(l and l.writers or {}) do
    if w.token == token then return w end
  end
end

-- An invalidation ends a load, and spoils what a writer is about to store.
local function spoil(key, name)
  local l = leased(key)
  if not l then return end
  if l.writers then
    l.contended = true
    hold(key, l)
  else
    redis.call('UNLINK', key)
    if l.waited then wake(name) end
  end
end
