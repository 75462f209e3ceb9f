-- Invalidates all entries of the shard that have one of the tags.
--
-- KEYS[1]  the shard's hash
-- ARGV[1]  begins an epoch if need be
-- ARGV[2]  for how many ms at the least it must be remembered, for the sake of loads
-- ARGV[3…] tags
--
-- Returns { 1, n, epoch }.
local s = open(ARGV[1])
for i = 3, #ARGV do
  write(s, 't', ARGV[i])
  local _, since = record(ARGV[i])
  local left = since and redis.call('PTTL', tagged(ARGV[i])) or 0
  redis.call('SET', tagged(ARGV[i]), digits(s.n) .. ' ' .. digits(since or s.n), 'PX', digits(math.max(left, tonumber(ARGV[2]))))
end
return { 1, s.n, s.e }
