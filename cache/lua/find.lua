-- Reads one variant of a resource, and takes the lease to make it anew if that should be
-- done.
--
-- KEYS[1]  the resource, a hash: "by" the names that tell its variants apart; "v:V" the
--          entry of variant V; "b:V" its body, if that is not in chunks; "d" the number of its last removal, "s" that of the last
--          time it was made stale
-- KEYS[2]  lease of the variant, KEYS[3] the shard's hash
-- ARGV[1]  variant, ARGV[2] the names it is one by
-- ARGV[3]  the resource's name, by which prefixes find it
-- ARGV[4]  token of the lease; '' to read only
-- ARGV[5]  how long the lease lasts, in ms
-- ARGV[6]  1 to take it for what is missing or stale
-- ARGV[7]  and for what is fresh for less than this many times its cost; 0: never
-- ARGV[8]  1 to bring the first chunk of a body as well, if all of them are there
--
-- Returns { verdict, now, n, epoch, names or nil, entry or nil, ms until the lease ends,
-- 1 if the entry was made stale, the body or its first chunk or nil }. Verdicts: 0
-- nothing fresh, 1 fresh, 2 make it, 3 somebody else is making it, 4 fresh and yours to
-- make anew, 7 it could not be kept lately, 8 the names are others.
local at, s = now(), look()
local r = redis.pcall('HMGET', KEYS[1], 'by', 'd', 's', 'v:' .. ARGV[1], 'b:' .. ARGV[1])
if r.err then r = {} end
local by, stale, first = r[1] or nil, 0, false
local h = head(r[4])
if h and (covered(s, ARGV[3], h.epoch, h.born, h.put, h.tags) or h.born < (whole(r[2]) or 0)) then h = nil end
if h and (softened(s, ARGV[3], h.born, h.tags) or h.born < (whole(r[3]) or 0)) then stale = 1 end
if h then
  local b = body(h.flags)
  if not b then
    h = nil
  elseif b.n == 0 then
    first = b.size > 0 and r[5]
    if b.size > 0 and not first then h = nil end
  elseif ARGV[8] == '1' then
    first = present(b.id, 0, b.n) == b.n and text(chunk(b.id, 0))
    if not first then h = nil end
  end
end

local function reply(verdict, left)
  return { verdict, at, s and s.n or 0, s and s.e or '', by or false, h and r[4] or false, left or 0, stale, h and first or false }
end

if by and by ~= ARGV[2] then
  h = nil
  return reply(8)
end
local function take()
  s = s or open(ARGV[4])
  redis.call('SET', KEYS[2], 'L ' .. ARGV[4] .. ' ' .. digits(s.n) .. ' ' .. s.e .. ' 0', 'PX', ARGV[5])
end
if h and stale == 0 and h.fresh > at then
  if ARGV[4] == '' or at + h.cost * tonumber(ARGV[7]) < h.fresh then return reply(1) end
  local lease = text(KEYS[2])
  if lease and not string.find(lease, 'L ' .. ARGV[4] .. ' ', 1, true) then return reply(1) end
  take()
  return reply(4)
end
if ARGV[6] == '0' then return reply(0) end
if text(KEYS[2]) == 'P' then return reply(7) end
local l = leased(KEYS[2])
if not l then
  take()
  return reply(2)
end
if l.token == ARGV[4] then return reply(2) end
local left = redis.call('PTTL', KEYS[2])
if left < 0 then -- somebody took its end away
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
  left = tonumber(ARGV[5])
end
if not l.waited then
  redis.call('SET', KEYS[2], 'L ' .. l.token .. ' ' .. digits(l.born) .. ' ' .. l.epoch .. ' 1', 'KEEPTTL')
end
return reply(3, left)
