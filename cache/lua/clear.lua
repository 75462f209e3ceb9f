-- Invalidates all entries of the shard, or those whose name begins with a prefix, or
-- makes them stale.
--
-- KEYS[1]  the shard's hash
-- ARGV[1]  begins an epoch if need be
-- ARGV[2]  'all', 'prefix', or 'barrier' to have only what is being loaded not stored
-- ARGV[3]  1 to make stale, 0 to invalidate
-- ARGV[4]  the prefix, ARGV[5] how many of them are remembered
--
-- Returns { 1, n, epoch }.
local s = open(ARGV[1])
write(s, 'a', '')
local floor, list, low, known = 'f', 'p', s.f, s.p
if ARGV[3] == '1' then floor, list, low, known = 'sf', 'sp', s.sf, s.sp end
if ARGV[2] == 'all' then
  redis.call('HSET', META, floor, s.n)
  redis.call('HDEL', META, list)
elseif ARGV[2] == 'barrier' then
  redis.call('HSET', META, 'b', s.n)
else
  local prefix = ARGV[4]
  local kept = {}
  for _, k in ipairs(known) do
    if string.sub(k.prefix, 1, #prefix) ~= prefix then kept[#kept + 1] = k end
  end
  kept[#kept + 1] = { n = s.n, prefix = prefix }
  if #kept > tonumber(ARGV[5]) then
    -- What the oldest covers is covered by the floor from now on, and more besides.
    redis.call('HSET', META, floor, digits(math.max(low, kept[1].n)))
    table.remove(kept, 1)
  end
  local all = ''
  for _, k in ipairs(kept) do all = all .. digits(k.n) .. ' ' .. #k.prefix .. ':' .. k.prefix end
  redis.call('HSET', META, list, all)
end
return { 1, s.n, s.e }
