-- Stores a new session under a name that is free. A mark is there already if the
-- user's sessions were ended while this one began.
-- KEYS[1]  the session
-- ARGV[1]  its value
-- ARGV[2]  milliseconds it lives
-- returns  1: stored; 0: the name is taken
if redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX') then
	return 1
end
if redis.call('GET', KEYS[1]) == ARGV[1] then -- a first run whose reply was lost
	return 1
end
return 0
