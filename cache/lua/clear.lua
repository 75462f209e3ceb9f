-- Invalidates all entries of the shard, or those whose name begins with a prefix.
--
-- KEYS[1]  the shard's hash
-- ARGV[1]  begins an epoch if need be
-- ARGV[2]  'all', 'prefix', or 'barrier' to have only what is being loaded not stored
-- ARGV[3]  the prefix, ARGV[4] how many of them are remembered
--
-- Returns { 1, n, epoch }.
local s = open(ARGV[1])
write(s, 'a', '')
if ARGV[2] == 'all' then
  redis.call('HSET', META, 'f', s.n)
  redis.call('HDEL', META, 'p')
elseif ARGV[2] == 'barrier' then
  redis.call('HSET', META, 'b', s.n)
else
  local prefix = ARGV[3]
  local kept = {}
  for _, k in ipairs(s.p) do
    if string.sub(k.prefix, 1, #prefix) ~= prefix then kept[#kept + 1] = k end
  end
  kept[#kept + 1] = { n = s.n, prefix = prefix }
  if #kept > tonumber(ARGV[4]) then
    -- What the oldest covers is covered by the floor from now on, and more besides.
    redis.call('HSET', META, 'f', digits(math.max(s.f, kept[1].n)))
    table.remove(kept, 1)
  end
  local list = ''
  for _, k in ipairs(kept) do list = list .. digits(k.n) .. ' ' .. #k.prefix .. ':' .. k.prefix end
  redis.call('HSET', META, 'p', list)
end
return { 1, s.n, s.e }
