-- Bans a key.
--
-- KEYS[1]  the ban
-- ARGV[1]  how long, in µs
local lasting = tonumber(ARGV[1])
redis.call('SET', KEYS[1], digits(now + lasting), 'PX', digits(math.ceil(lasting / 1000) + 1))
return 1
