-- Invalidates all entries of the shard that have one of the tags, or makes them stale.
--
-- KEYS[1]  the shard's hash
-- ARGV[1]  begins an epoch if need be
-- ARGV[2]  for how many ms at the least it must be remembered, for the sake of loads
-- ARGV[3]  1 to make stale, 0 to invalidate
-- ARGV[4…] tags
--
-- Returns { 1, n, epoch }.
local s = open(ARGV[1])
for i = 4, #ARGV do
  write(s, 't', ARGV[i])
  local last, since, stale = record(ARGV[i])
  local left = since and redis.call('PTTL', tagged(ARGV[i])) or 0
  since = since or s.n
  if ARGV[3] == '1' then stale = s.n else last = s.n end
  redis.call('SET', tagged(ARGV[i]), digits(last or 0) .. ' ' .. digits(since) .. ' ' .. digits(stale or 0),
    'PX', digits(math.max(left, tonumber(ARGV[2]))))
end
return { 1, s.n, s.e }
