-- Before stream_take.lua, stream_join.lua and stream_leave.lua: that entries are gone
-- must be told, though the reply that tells it may be lost and the consumer die. So it
-- stands in the meta until the consumer says that it has been told.

-- missed adds found to what is to be told to the holder of field, -1 if nobody knows
-- how many are gone. told is the mark of what it was told last. It returns the count to
-- be told, and its mark; 0 if there is nothing.
local function missed(meta, field, told, found)
  local was = redis.call('HGET', meta, field)
  local count, mark = 0, ''
  if was then
    count, mark = string.match(was, '^(%S+) (%S+)$')
    count = tonumber(count)
    if mark == told then count, mark = 0, '' end
  end
  if found ~= 0 then
    count = (found < 0 or count < 0) and -1 or count + found
    mark = table.concat(redis.call('TIME'), '.')
    redis.call('HSET', meta, field, count .. ' ' .. mark)
  elseif was and mark == '' then
    redis.call('HDEL', meta, field)
  end
  return count, mark
end
