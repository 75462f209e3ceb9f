-- Renews the lease of a request in flight.
--
-- KEYS[1]  the requests in flight
-- ARGV[1]  the request's id
-- ARGV[2]  the lease, in µs
-- ARGV[3]  how many may be in flight
--
-- Returns 1; or 0 if the lease had ended and others have taken the place.
local flight, id, lease = KEYS[1], ARGV[1], tonumber(ARGV[2])
typed('ZREMRANGEBYSCORE', flight, '-inf', digits(now))
if not redis.call('ZSCORE', flight, id) and redis.call('ZCARD', flight) >= tonumber(ARGV[3]) then
  return 0
end
redis.call('ZADD', flight, digits(now + lease), id)
expire(flight, lease)
return 1
