-- Sets how long a session lives from now, unless it has ended: its mark keeps its
-- own time.
-- KEYS[1]  the session
-- ARGV[1]  milliseconds it lives
-- ARGV[2]  how the value of an ended session begins
-- returns  1: set; 0: there is none any more
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[2] - 1) == ARGV[2] then
	return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[1])
