-- Adds a session, unless "end all" came after the login began. Where the user has
-- as many as allowed, it is refused, or those created first make room.
--
-- KEYS[3]  ended: "<µs>.<batch>" of the last "end all"
-- KEYS[4]  gone: hash, what went for the sake of this id, and itself when removed
-- ARGV[1]  the session's id, which is used once
-- ARGV[2]  its blob
-- ARGV[3]  its life, in ms
-- ARGV[4]  how long ago the login began, in µs
-- ARGV[5]  how many sessions may be alive; 0 for any number
-- ARGV[6]  1 to refuse rather than to evict
-- ARGV[7]  an "end all" that the login came after for sure, or ""
-- ARGV[8]  "again", on the second run
--
-- Returns { -1 } began before "end all", { 0 } too many, or { 1, lead, then for
-- each evicted its id, score and info }; the second run has "" for the scores. lead
-- is how long after the "end all" the login can have begun, at most, in µs; "" if
-- there was none.
--
-- Cost: O(1) and logarithms; with a limit O(n) on that many entries when it is
-- reached, and once on all there are when it was lowered.
local ended, gone, id = KEYS[3], KEYS[4], ARGV[1]
local limit = tonumber(ARGV[5])

local known = redis.call('ZSCORE', ids, id)
local before = redis.call('HGET', info, id)
local mark = redis.call('GET', ended)
if mark and string.match(mark, '%.(.*)$') == ARGV[7] then mark = nil end
mark = mark and tonumber(string.match(mark, '^%d+'))
local lead = mark and time[1] * 1000000 + time[2] - ARGV[4] - mark
local reply = { 1, lead and digits(lead) or '' }

if ARGV[8] == 'again' then
  local left = redis.call('HGETALL', gone)
  for i = 1, #left, 2 do
    if left[i] ~= id then
      reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = left[i], '', left[i + 1]
    end
  end
  -- The first run was here. If the session has ended since, it is not to come back.
  if left[1] then return reply end
end
if known then
  put(id, ARGV[2], ARGV[3], created(before))
  settle()
  return reply
end

-- An equal instant is a tie of rounded numbers.
if lead and lead <= 0 then return { -1 } end

local stale = past(limit > 0 and -1 or PURGED)
local total = redis.call('ZCARD', ids)
local excess = limit > 0 and total - #stale - limit + 1 or 0
if excess > 0 and ARGV[6] == '1' then
  forget(stale)
  settle()
  return { 0 }
end

local out = {} -- who is evicted
if excess > 0 then
  local live = redis.call('ZRANGEBYSCORE', ids, '(' .. digits(now), '+inf')
  local order = {} -- by creation, then by id
  for from = 1, #live, CHUNK do
    local values = redis.call('HMGET', info, unpack(live, from, math.min(from + CHUNK - 1, #live)))
    for i, value in ipairs(values) do
      order[from + i - 1] = string.format('%016.0f', tonumber(created(value)) or 0) .. live[from + i - 1]
    end
  end
  if excess == 1 then -- as a rule: spare the sorting
    for _, one in ipairs(order) do
      if not out[1] or one < out[1] then out[1] = one end
    end
  else
    table.sort(order)
    for i = 1, excess do out[i] = order[i] end
  end
  for i, one in ipairs(out) do out[i] = string.sub(one, 17) end
end

put(id, ARGV[2], ARGV[3], nil, total == 0)
redis.call('UNLINK', gone) -- whatever it was
forget(stale)
for from = 1, #out, CHUNK do
  local last, trace = math.min(from + CHUNK - 1, #out), {}
  for i, value in ipairs(redis.call('HMGET', info, unpack(out, from, last))) do
    local one, n = out[from + i - 1], #reply
    trace[2 * i - 1], trace[2 * i] = one, value or ''
    reply[n + 1], reply[n + 2], reply[n + 3] = one, digits(tonumber(redis.call('ZSCORE', ids, one))), value or ''
  end
  redis.call('HSET', gone, unpack(trace))
  redis.call('PEXPIRE', gone, MINUTE)
end
forget(out)
settle()
if redis.call('PTTL', ended) == -1 then redis.call('PEXPIRE', ended, HOUR) end
return reply
