-- A consumer begins again to handle entries: each is its own still, or another's by now.
--
-- KEYS[1]  the stream
-- ARGV[1]  the group
-- ARGV[2]  the consumer
-- ARGV[3…] pairs of an id and which delivery this is
--
-- Returns the ids that the consumer must leave alone.
local key, group, me = KEYS[1], ARGV[1], ARGV[2]
local wrong = misplaced(key, 'stream')
if wrong then return wrong end
local lost = {}
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  local row = redis.call('XPENDING', key, group, id, id, 1)[1]
  if not row or row[2] ~= me then
    lost[#lost + 1] = id
  elseif #redis.call('XRANGE', key, id, id) > 0 then
    redis.call('XCLAIM', key, group, me, 0, id, 'RETRYCOUNT', ARGV[i + 1], 'JUSTID')
  end
end
return lost
