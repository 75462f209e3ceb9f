-- Stores what a load brought, if its lease still stands and no invalidation has come
-- since the lease was taken.
--
-- KEYS[1]  entry, KEYS[2] lease, KEYS[3] the shard's hash
-- ARGV[1]  name, ARGV[2] token of the lease
-- ARGV[3]  for how many ms it is fresh, ARGV[4] for how many ms to keep it
-- ARGV[5]  cost, ARGV[6] flags, ARGV[7] tags, ARGV[8] bytes
--
-- Returns { 1, n, epoch } if it was stored, else { 0 }.
local name = ARGV[1]
local l = leased(KEYS[2])
if not l or l.token ~= ARGV[2] then return { 0 } end
redis.call('UNLINK', KEYS[2])
local at, s, stored = now(), look(), 0
if l.born >= (s and s.b or 0) and not covered(s, name, l.epoch, l.born, nil, ARGV[7]) then
  stored = 1
  local replaced = redis.call('EXISTS', KEYS[1]) == 1
  if replaced then write(s, 'k', name) end -- near tiers may hold the older one
  put(s, l.born, at)
end
if l.waited then wake(name) end
if stored == 0 then return { 0 } end
return { 1, s.n, s.e }
