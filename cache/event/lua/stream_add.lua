-- Before stream_publish.lua and stream_requeue.lua: how an entry gets into a stream.
--
-- An entry's fields: n, its number, one more than that of the entry before it, by
-- which a reader sees that entries between two are gone; r, the request that made
-- it; v, the payload; and g, if it is for one group alone. Entries that others XADD
-- need v only.

-- valueOf is the value of one field of an entry, or nil.
local function valueOf(entry, name)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == name then return entry[2][i + 1] end
  end
  return nil
end

-- add appends an entry with fields, trims the stream to about most entries no older
-- than retention ms, has both keys live for lifetime ms more, and wakes who waits.
-- It returns the entry's id.
local function add(key, meta, most, retention, lifetime, fields)
  local n = redis.call('HINCRBY', meta, 'n', 1)
  if n == 1 then -- a new stream, or its counter was lost
    local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
    local was = last and tonumber(valueOf(last, 'n'))
    if was then
      n = was + 1
      redis.call('HSET', meta, 'n', n)
    end
  end
  local id = redis.call('XADD', key, 'MAXLEN', '~', most, '*', 'n', n, unpack(fields))
  local oldest = tonumber(string.match(id, '^%d+')) - retention
  if oldest > 0 then redis.call('XTRIM', key, 'MINID', '~', oldest) end
  redis.call('PEXPIRE', key, lifetime)
  redis.call('PEXPIRE', meta, lifetime)
  redis.call('PUBLISH', key, id)
  return id
end
