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
local mine = writer(l, token)
if not mine then -- the lease has ended, or never began
  spoil(KEYS[2], name)
  return { 0, s.n, s.e }
end
if #l.writers > 1 then
  local rest = {}
  for _, w in ipairs(l.writers) do
    if w ~= mine then rest[#rest + 1] = w end
  end
  l.writers, l.contended = rest, true
  hold(KEYS[2], l)
  return { 0, s.n, s.e }
end
redis.call('UNLINK', KEYS[2])
if l.contended or ARGV[9] ~= '1' or l.born < s.b or covered(s, name, l.epoch, l.born, nil, ARGV[7]) then
  return { 0, s.n, s.e }
end
put(s, l.born, at)
return { 1, s.n, s.e }
