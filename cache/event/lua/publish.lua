-- Publishes an event, with Redis's time in it; at most once for its id, if it has one.
--
-- KEYS[1]  the channel; it is no key, but decides which server of a Cluster is asked
-- KEYS[2]  the event's id, if it is to be published once
-- ARGV[1]  what stands before the time
-- ARGV[2]  what stands after it
-- ARGV[3]  the request
-- ARGV[4]  how long the id is remembered, in ms
--
-- Returns 1 if another request has published the id before, else 0.
local known = KEYS[2]
if known then
  local request = redis.pcall('GET', known)
  if type(request) == 'table' then return request end -- an error: WRONGTYPE
  if request then
    if redis.call('PTTL', known) < 0 then redis.call('PEXPIRE', known, ARGV[4]) end -- somebody's PERSIST
    return request == ARGV[3] and 0 or 1
  end
  redis.call('SET', known, ARGV[3], 'PX', ARGV[4])
end
local now = redis.call('TIME')
redis.call('PUBLISH', KEYS[1], ARGV[1] .. string.format('%d%06d', now[1], now[2]) .. ARGV[2])
return 0
