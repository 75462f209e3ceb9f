-- Before all of data.lua, which takes longer to set up than this to run: what most reads
-- find, a fresh entry without tags of which no prefix is in question. ask.lua then does
-- not run, and says the same of it, but for the epoch, which the entry says as well.
do
  local v = redis.pcall('GET', KEYS[1])
  local m = type(v) == 'string' and redis.pcall('HMGET', KEYS[3], 'e', 'n', 'f', 'p', 'sf', 'sp') or { err = true }
  if not m.err and m[1] and m[2] and not m[4] and not m[6] then
    local born, put, epoch, stored, fresh, cost = string.match(v, '^w1 (%d+) (%d+) (%S+) (%d+) (%d+) (%d+) %S+ \n')
    local sane = born and #born < 16 and #put < 16 and #stored < 16 and #fresh < 16 and #cost < 16
    born, fresh = tonumber(born), tonumber(fresh)
    local t = redis.call('TIME')
    local at = t[1] * 1000 + math.floor(t[2] / 1000)
    if sane and epoch == m[1] and born >= (tonumber(m[3]) or 0) and born >= (tonumber(m[5]) or 0) and put ~= ARGV[5]
      and fresh > at and (ARGV[2] == '' or at + cost * tonumber(ARGV[4]) < fresh) and tonumber(m[2]) then
      return { 1, at, tonumber(m[2]), '', v, 0 }
    end
  end
end
