-- Writes a session's value whatever it was before, unless the session has ended.
-- KEYS[1]  the session
-- ARGV[1]  the new value
-- ARGV[2]  milliseconds it lives
-- ARGV[3]  how the value of an ended session begins
-- returns  1: written; 0: it has ended
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[3] - 1) == ARGV[3] then
	return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
