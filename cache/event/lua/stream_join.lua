-- A consumer joins its group, and looks for entries that were delivered but are in
-- nobody's hands: to itself, by a reply that was lost, or to consumers that are gone.
--
-- KEYS[1]  the stream
-- KEYS[2]  its meta
-- ARGV[1]  the group
-- ARGV[2]  the consumer
-- ARGV[3]  how many entries it wants
-- ARGV[4]  where a new group begins: 0 or $
-- ARGV[5]  1 if the consumer has seen the group before, else 0
-- ARGV[6]  how many ms without a sign make an entry's consumer a dead one
-- ARGV[7]  how the names of consumers begin that this one stands in for, or ''
-- ARGV[8]  how long the keys live, in ms
-- ARGV[9]  the mark of what it was told last to be gone
-- ARGV[10…] the ids in the consumer's hands
--
-- Returns how many entries are gone that the group has not read, -1 if that cannot
-- be known, and a mark of that; the ids of those that are gone though delivered, to be
-- acknowledged; the entries to handle, each an id, which delivery this is, and its
-- fields; and 1 if there are more.
local key, meta, group, me = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local want, start, known, idle, elder = tonumber(ARGV[3]), ARGV[4], ARGV[5] == '1', tonumber(ARGV[6]), ARGV[7]
local wrong = misplaced(key, 'stream', meta, 'hash')
if wrong then return wrong end
local read, owed = 'g:' .. group, 'm:' .. group .. ':'
local gone, trimmed, entries, more = 0, {}, {}, 0

-- number is that of an entry, or nil.
local function number(entry)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'n' then return tonumber(entry[2][i + 1]) end
  end
end

-- record is what XINFO tells of one group or consumer.
local function record(row)
  local r = {}
  for i = 1, #row, 2 do r[row[i]] = row[i + 1] end
  return r
end

-- first is the number before that of the oldest entry, or of the next to come.
local function first()
  local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  if oldest then return (number(oldest) or 1) - 1 end
  return tonumber(redis.call('HGET', meta, 'n') or '0')
end

-- A group that is known and not there was lost, and with it what it had not read. It
-- begins anew with all there is.
local seen = redis.call('HGET', meta, read)
if seen or known then start = '0' end
local last -- the last entry that the group was given
for _, row in ipairs(redis.call('EXISTS', key) == 1 and redis.call('XINFO', 'GROUPS', key) or {}) do
  local g = record(row)
  if g.name == group then last = g['last-delivered-id'] end
end
if not last then
  redis.call('XGROUP', 'CREATE', key, group, start, 'MKSTREAM')
  if seen or known then gone = -1 end
  seen = first()
  if start == '$' then seen = tonumber(redis.call('HGET', meta, 'n') or '0') end
  redis.call('HSET', meta, read, seen)
elseif not seen then -- the group is somebody else's work, or the meta was lost
  seen = first()
  local entry = redis.call('XRANGE', key, last, last)[1]
  if entry then
    seen = number(entry) or seen
  elseif last ~= '0-0' and #redis.call('XRANGE', key, '-', last, 'COUNT', 1) == 0 then
    gone = -1
  end
  redis.call('HSET', meta, read, seen)
end
for _, k in ipairs({ key, meta }) do
  if redis.call('PTTL', k) < tonumber(ARGV[8]) then redis.call('PEXPIRE', k, ARGV[8]) end
end

local mine = {}
for i = 10, #ARGV do mine[ARGV[i]] = true end
local held = #ARGV - 9

-- hand gives out what is pending, unless the consumer has it already.
local function hand(row)
  local id, count = row[1], row[4]
  if mine[id] then return end
  local entry = redis.call('XRANGE', key, id, id)[1]
  if not entry then
    trimmed[#trimmed + 1] = id
    mine[id] = true
    return
  end
  if #entries >= want then
    more = 1
    return
  end
  if row[2] ~= me then
    count = count + 1
    redis.call('XCLAIM', key, group, me, 0, id, 'RETRYCOUNT', count, 'JUSTID')
  end
  mine[id] = true
  entries[#entries + 1] = { id, count, entry[2] }
end

if want > 0 then
  for _, row in ipairs(redis.call('XPENDING', key, group, '-', '+', held + want, me)) do hand(row) end
end
local consumers = redis.call('XINFO', 'CONSUMERS', key, group)
for _, row in ipairs(consumers) do
  local name = record(row).name
  if elder ~= '' and name ~= me and string.sub(name, 1, #elder) == elder then
    for _, r in ipairs(redis.call('XPENDING', key, group, '-', '+', want + 1, name)) do hand(r) end
  end
end
for _, row in ipairs(redis.call('XPENDING', key, group, 'IDLE', idle, '-', '+', held + want + 100)) do hand(row) end

-- A consumer that is gone goes when it has nothing pending, and not before: with it
-- Redis forgets what it had. One that only waits may go, too: its next entry makes it
-- anew.
for _, row in ipairs(consumers) do
  local c = record(row)
  if c.name ~= me and c.pending == 0 and c.idle > math.min(idle, 60000) then
    redis.call('XGROUP', 'DELCONSUMER', key, group, c.name)
    local untold = missed(meta, owed .. c.name, '', 0)
    if untold ~= 0 then
      gone = (gone < 0 or untold < 0) and -1 or gone + untold
      redis.call('HDEL', meta, owed .. c.name)
    end
  end
end
local count, mark = missed(meta, owed .. me, ARGV[9], gone)
return { count, mark, trimmed, entries, more }
