-- How long ago "end all" was.
--
-- KEYS[1]  ended: "<µs>.<batch>" of the last one
--
-- Returns µs, or -1 if there was none.
local mark = redis.call('GET', KEYS[1])
mark = mark and tonumber(string.match(mark, '^%d+'))
if not mark then return -1 end
local time = redis.call('TIME')
return time[1] * 1000000 + time[2] - mark
