-- Ends a write through the cache: stores what the source has taken, if this writer was
-- alone from the first to the last and no invalidation has come meanwhile.
--
-- KEYS, and ARGV but the last, as in fill.lua
-- ARGV[9]  1 to store, 0 if the source may not have taken it
--
-- Returns { stored, n, epoch }.
local name, token = ARGV[1], ARGV[2]
local at, s = now(), open(token)
local l = leased(KEYS[2])
redis.call('UNLINK', KEYS[1])
write(s, 'k', name)
local rest, mine = {}, false
for t in string.gmatch(l and l.writers or '', '%S+') do
  if t == token then mine = true else rest[#rest + 1] = t end
end
if not mine then -- the lease has ended, or never began
  spoil(KEYS[2], name)
  return { 0, s.n, s.e }
end
if #rest > 0 then
  redis.call('SET', KEYS[2], 'W 1 ' .. digits(l.born) .. ' ' .. l.epoch .. ' ' .. table.concat(rest, ' '), 'KEEPTTL')
  return { 0, s.n, s.e }
end
redis.call('UNLINK', KEYS[2])
if l.contended or ARGV[9] ~= '1' or l.born < s.b or covered(s, name, l.epoch, l.born, nil, ARGV[7]) then
  return { 0, s.n, s.e }
end
put(s, l.born, at)
return { 1, s.n, s.e }
