-- A consumer leaves: what it has not handled is to be claimed at once, and it is
-- deleted if it has nothing pending.
--
-- KEYS[1]  the stream
-- KEYS[2]  its meta
-- ARGV[1]  the group
-- ARGV[2]  the consumer
-- ARGV[3]  how many ms without a sign make an entry's consumer a dead one
-- ARGV[4]  the mark of what it was told last to be gone
-- ARGV[5…] pairs of an id and how many deliveries count
--
-- Returns how many entries are gone that the group has not read, and a mark of that.
local key, meta, group, me = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local left = 0
for i = 5, #ARGV, 2 do
  local id = ARGV[i]
  local row = redis.call('XPENDING', key, group, id, id, 1)[1]
  if row and row[2] == me and #redis.call('XRANGE', key, id, id) > 0 then
    redis.call('XCLAIM', key, group, me, 0, id, 'IDLE', ARGV[3], 'RETRYCOUNT', ARGV[i + 1], 'JUSTID')
    left = left + 1
  end
end
if left > 0 then redis.call('PUBLISH', key, 'left') end
local count, mark = missed(meta, 'm:' .. group .. ':' .. me, ARGV[4], 0)
if count == 0 and #redis.call('XPENDING', key, group, '-', '+', 1, me) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', key, group, me)
end
return { count, mark }
