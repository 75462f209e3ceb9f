-- Publishes an event, once for its request and once for its id.
--
-- KEYS[1]  the stream
-- KEYS[2]  its meta
-- KEYS[3]  the event's id, if it has one
-- ARGV[1]  the payload
-- ARGV[2]  the request
-- ARGV[3]  how many entries are kept, roughly
-- ARGV[4]  for how long they are kept, in ms
-- ARGV[5]  how long the keys live, in ms
-- ARGV[6]  how long the event's id is remembered, in ms
-- ARGV[7]  given to a second run: how far back the first one can be, in ms
--
-- Returns the entry's id, and 1 if another request has made it.
local key, meta, known = KEYS[1], KEYS[2], KEYS[3]
local wrong = misplaced(key, 'stream', meta, 'hash', known or key, known and 'string' or 'stream')
if wrong then return wrong end
if known then
  local was = redis.call('GET', known)
  if was then
    local id, request = string.match(was, '^(%S+) (%S+)$')
    return { id, request == ARGV[2] and 0 or 1 }
  end
elseif ARGV[7] then
  local now = redis.call('TIME')
  local since = math.max(0, now[1] * 1000 + math.floor(now[2] / 1000) - ARGV[7])
  for _, entry in ipairs(redis.call('XREVRANGE', key, '+', since)) do
    if valueOf(entry, 'r') == ARGV[2] then return { entry[1], 0 } end
  end
end
local id = add(key, meta, ARGV[3], tonumber(ARGV[4]), ARGV[5], { 'r', ARGV[2], 'v', ARGV[1] })
if known then redis.call('SET', known, id .. ' ' .. ARGV[2], 'PX', ARGV[6]) end
return { id, 0 }
