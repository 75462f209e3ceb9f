-- Has chunks of a body last for a while at the least, and counts them.
--
-- KEYS[1]  the shard's hash
-- ARGV[1]  the body's id
-- ARGV[2]  the first chunk, ARGV[3] the one behind the last
-- ARGV[4]  how many ms they are to last at the least; 0 to count them only
--
-- Returns how many there are.
local id, from, to, ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
for i = from, ms > 0 and to - 1 or -1 do
  local key = chunk(id, i)
  local left = redis.call('PTTL', key)
  if left >= 0 and left < ms then redis.call('PEXPIRE', key, digits(ms)) end
end
return present(id, from, to)
