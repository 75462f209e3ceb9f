-- Gives a session a new blob and a new life, if it is alive.
--
-- ARGV[1]  the session's id
-- ARGV[2]  its blob; "" to leave it
-- ARGV[3]  its life from now on, in ms
--
-- Returns 1, or 0 if it is not alive.
local before = redis.call('HGET', info, ARGV[1])
if not redis.call('ZSCORE', ids, ARGV[1]) then return 0 end
local blob = ARGV[2]
if blob == '' then blob = before and string.match(before, '^%d+%.%d+%.(.*)$') or '' end
put(ARGV[1], blob, ARGV[3], created(before))
settle()
return 1
