-- Puts a mark in a session's place, if its value is still the one that the caller has
-- seen, or whatever is there.
-- KEYS[1]  the session
-- ARGV[1]  SHA-1 of the value that the caller has seen, in hex; "" for any, or none
-- ARGV[2]  the mark
-- ARGV[3]  milliseconds it stays
-- ARGV[4]  set in a second run only, as nobody knows whether there was a first one
-- returns  1: it is there; 0: there is no session any more; else the value that is there
local now = ARGV[1] ~= '' and redis.call('GET', KEYS[1])
if ARGV[1] ~= '' then
	if not now then
		return 0
	end
	if ARGV[4] and now == ARGV[2] then -- the first run's
		return 1
	end
	if redis.sha1hex(now) ~= ARGV[1] then
		return now
	end
end
-- First what Redis allows when it is out of memory; then it allows the rest, too.
redis.call('UNLINK', KEYS[1])
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
