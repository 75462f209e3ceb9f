-- Replaces a session's value, if it is still the one that the caller has seen.
-- KEYS[1]  the session
-- ARGV[1]  SHA-1 of the value that the caller has seen, in hex
-- ARGV[2]  the new value
-- ARGV[3]  milliseconds it lives
-- ARGV[4]  set in a second run only, as nobody knows whether there was a first one
-- returns  1: replaced; 0: there is none any more; else the value that is there
local now = redis.call('GET', KEYS[1])
if not now then
	return 0
end
if redis.sha1hex(now) == ARGV[1] then
	redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
	return 1
end
if ARGV[4] and now == ARGV[2] then -- the first run's
	return 1
end
return now
