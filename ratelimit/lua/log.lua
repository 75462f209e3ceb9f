-- The log of a key: a sorted set of admissions in their order, scored with their
-- instants. A member is "sum:cost:id": the costs of all admissions up to it, its
-- own, and who it is, or "" for a batch of merged ones. A window thus holds
-- (the last one's sum) - (the first one's sum - its cost), two look-ups.
--
-- A letter stands before the sum, 'a' for one digit and so on: members of one
-- score, which Redis orders by their bytes, are then in order as well.
local LEAST_SINGLE = 32 -- so many of the latest are never merged
local MERGE_AFTER = 16 -- so many more start a merge
local BATCHES = 56 -- into so many a limit is divided: see plan.go
local FULL = 2147483647 -- no limit is higher

-- A member taken apart; nil if it is not ours.
local function entry(member, score)
  local sum, cost, id = string.match(member, '^%l(%d+):(%d+):(.*)$')
  local at = tonumber(score)
  if sum and at and math.abs(at) < 2 ^ 53 then
    return { sum = tonumber(sum), cost = tonumber(cost), id = id, at = at }
  end
end

local function member(sum, cost, id)
  sum = digits(sum)
  return string.char(96 + #sum) .. sum .. ':' .. digits(cost) .. ':' .. id
end

-- The entries that a command returns; nil if one is not ours.
local function entries_of(raw)
  local entries = {}
  for i = 1, #raw, 2 do
    local e = entry(raw[i], raw[i + 1])
    if not e then return nil end
    entries[#entries + 1] = e
  end
  return entries
end

-- The entries from a score on, oldest first; nil if one is not ours.
local function load(from)
  return entries_of(redis.call('ZRANGEBYSCORE', log, from, '+inf', 'WITHSCORES'))
end

-- Adds entries, from one index to another, behind those that make up sum.
local function put(entries, from, to, sum)
  local args = {}
  for i = from, to do
    local e = entries[i]
    sum = sum + e.cost
    args[#args + 1] = digits(e.at)
    args[#args + 1] = member(sum, e.cost, e.id)
    if #args >= 1000 or i == to then
      redis.call('ZADD', log, unpack(args))
      args = {}
    end
  end
end

-- Puts entries in the place of all that have at least the score from.
local function rewrite(from, sum, entries)
  local rest = redis.call('PTTL', log)
  redis.call('ZREMRANGEBYSCORE', log, from, '+inf') -- a key that is empty is gone
  put(entries, 1, #entries, sum)
  if rest > 0 then redis.call('PEXPIRE', log, rest) end
end

-- Takes for full what holds something else than a log: not knowing what was
-- admitted, it admits nothing that might be too much.
local function refill()
  redis.call('DEL', log)
  redis.call('ZADD', log, digits(now), member(FULL, FULL, ''))
  return { sum = FULL, cost = FULL, id = '', at = now }
end

-- Returns the latest entry or nil. It writes nothing but to heal: the first write
-- of a script must be one that Redis refuses when it is out of memory, or it lets
-- all that follow pass.
local function latest(retention)
  local raw = typed('ZRANGE', log, -1, -1, 'WITHSCORES')
  if not raw then return refill() end
  if not raw[1] then return nil end
  local last = entry(raw[1], raw[2])
  if not last then return refill() end
  if last.at > now + 1000000 then
    -- The clock was set back. Nobody is kept out until it is there again: the
    -- log moves along, so that the latest admission is of now.
    local entries = load('-inf')
    if not entries then return refill() end
    local ahead = last.at - now
    for _, e in ipairs(entries) do e.at = e.at - ahead end
    rewrite('-inf', entries[1].sum - entries[1].cost, entries)
    expire(log, retention)
    last.at = now
  end
  return last
end

-- Merges all but the newest entries into batches of at most quantum(age): the costs
-- that may be counted too long. A batch has the time of its latest part, so nothing
-- is forgotten too early. It is never divided, or parts of it would be counted
-- longer with each merge.
local function merge(newest, quantum, total)
  local raw = redis.call('ZRANGE', log, 0, 0, 'WITHSCORES')
  local oldest = entry(raw[1], raw[2])
  local all = oldest and total - oldest.sum + oldest.cost
  if oldest and total > 9 * all then -- sums of fewer digits
    local whole = load('-inf')
    if whole then rewrite('-inf', 0, whole) end
  end
  local old, from = redis.call('ZCARD', log) - newest, 0
  -- Those that were merged before need no look, unless there are too many: batches
  -- of a short window that have become old for a longer one.
  if old < BATCHES + 2 * MERGE_AFTER then from = math.max(0, old - MERGE_AFTER - 1) end
  local entries, merged = entries_of(redis.call('ZRANGE', log, from, old - 1, 'WITHSCORES')), {}
  if not oldest or not entries then return refill() end
  local first, final
  local sum = entries[1].sum - entries[1].cost
  for i, e in ipairs(entries) do
    -- What has left all windows of these limits may be in those of another plan.
    local most = quantum(now - e.at) or 1 + math.ceil(all / BATCHES)
    local last = merged[#merged]
    local room = last and most - last.cost or 0
    if most > 1 and (e.id ~= '' or room >= e.cost) then
      local part = math.max(0, math.min(room, e.cost))
      first, final = first or (part > 0 and i - 1 or i), i
      if part > 0 then last.cost, last.at, last.id = last.cost + part, e.at, '' end
      e.cost, e.id = e.cost - part, ''
    end
    if e.cost > 0 then merged[#merged + 1] = e end
  end
  if not first then return end
  for i = 1, first - 1 do sum = sum + merged[i].cost end
  redis.call('ZREMRANGEBYRANK', log, from + first - 1, from + final - 1)
  put(merged, first, #merged - #entries + final, sum)
end
