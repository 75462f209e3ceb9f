-- A consumer's turn: it acknowledges what it has handled, keeps what it is handling,
-- and takes new entries.
--
-- KEYS[1]  the stream
-- KEYS[2]  its meta
-- ARGV[1]  the group
-- ARGV[2]  the consumer
-- ARGV[3]  how many entries it wants
-- ARGV[4]  how many ids follow ARGV[5] that are handled
-- ARGV[5]  the mark of what it was told last to be gone
-- ARGV[6…] those ids, and then the ids that are being handled
--
-- Returns 1 if the consumer must join first (see stream_join.lua), else 0; how many
-- entries are gone that the group has not read, and a mark of that; the ids that others
-- have taken over; and the new entries, each delivered for the first time.
local key, meta, group, me = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local want, keepFrom = tonumber(ARGV[3]), 6 + ARGV[4]
local wrong = misplaced(key, 'stream', meta, 'hash')
if wrong then return wrong end
for i = 6, keepFrom - 1 do redis.call('XACK', key, group, ARGV[i]) end

-- join asks for it where the group is not there; other errors are the caller's.
local function join(failure)
  if string.find(failure.err, 'NOGROUP', 1, true) then return { 1, 0, '', {}, {} } end
  return failure
end

local lost = {}
for i = keepFrom, #ARGV do
  local id = ARGV[i]
  local rows = redis.pcall('XPENDING', key, group, id, id, 1)
  if rows.err then return join(rows) end
  local row = rows[1]
  if row and row[2] ~= me then
    lost[#lost + 1] = id
  elseif row and #redis.call('XRANGE', key, id, id) > 0 then
    -- It is idle for no time now. Redis 7 would forget that an entry is pending if it
    -- is trimmed: then its loss could not be told, should this consumer die.
    redis.call('XCLAIM', key, group, me, 0, id, 'RETRYCOUNT', row[4], 'JUSTID')
  end
end
if want == 0 then return { 0, 0, '', lost, {} } end

local read = 'g:' .. group
local seen = redis.call('HGET', meta, read)
if not seen then return { 1, 0, '', lost, {} } end
seen = tonumber(seen)
local got = redis.pcall('XREADGROUP', 'GROUP', group, me, 'COUNT', want, 'STREAMS', key, '>')
if got and got.err then return join(got) end

local entries, gone = got and got[1][2] or {}, 0
for _, entry in ipairs(entries) do
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'n' then
      local n = tonumber(entry[2][i + 1])
      if n then
        gone = gone + math.max(0, n - seen - 1)
        seen = n
      end
      break
    end
  end
end
if #entries > 0 then redis.call('HSET', meta, read, seen) end
local count, mark = missed(meta, 'm:' .. group .. ':' .. me, ARGV[5], gone)
return { 0, count, mark, lost, entries }
