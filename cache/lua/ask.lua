-- Reads an entry, and takes the lease to load it if it should be loaded.
--
-- KEYS[1]  entry, KEYS[2] lease, KEYS[3] the shard's hash
-- ARGV[1]  name
-- ARGV[2]  token of the lease; '' to read only
-- ARGV[3]  how long the lease lasts, in ms
-- ARGV[4]  refresh early what is fresh for less than this many times its cost; 0: never
-- ARGV[5]  put of an entry that does not decode, which is taken for none; or ''
--
-- Returns { verdict, now, n, epoch, entry or nil, ms until the lease ends }, where the
-- entry is there if it may be served, be it stale. Verdicts: 0 nothing fresh, 1 fresh,
-- 2 load it, 3 somebody else is loading, 4 fresh and yours to refresh, 5 somebody is
-- writing through: load, do not store; 6 a load has failed lately: serve what is stale.
local name, token = ARGV[1], ARGV[2]
local at = now()
local s = look()
local v = text(KEYS[1])
local h = head(v)
if h and (covered(s, name, h.epoch, h.born, h.put, h.tags) or h.id == ARGV[5]) then h = nil end
if not h then v = nil end
if h and softened(s, name, h.born, h.tags) then h.fresh = 0 end

local function reply(verdict, left)
  return { verdict, at, s and s.n or 0, s and s.e or '', v or false, left or 0 }
end

if h and h.fresh > at then
  if token == '' or at + h.cost * tonumber(ARGV[4]) < h.fresh or leased(KEYS[2]) then return reply(1) end
  redis.call('SET', KEYS[2], 'L ' .. token .. ' ' .. digits(s.n) .. ' ' .. s.e .. ' 0', 'PX', ARGV[3])
  return reply(4)
end
if token == '' then return reply(0) end

s = s or open(token)
local l = leased(KEYS[2])
if l and l.failed then
  if v then return reply(6, redis.call('PTTL', KEYS[2])) end
  l = nil
end
if not l then
  redis.call('SET', KEYS[2], 'L ' .. token .. ' ' .. digits(s.n) .. ' ' .. s.e .. ' 0', 'PX', ARGV[3])
  return reply(2)
end
if l.token == token then return reply(2) end
if l.writers then return reply(5) end
local left = redis.call('PTTL', KEYS[2])
if left < 0 then -- somebody took its end away
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
  left = tonumber(ARGV[3])
end
if not l.waited then
  redis.call('SET', KEYS[2], 'L ' .. l.token .. ' ' .. digits(l.born) .. ' ' .. l.epoch .. ' 1', 'KEEPTTL')
end
return reply(3, left)
