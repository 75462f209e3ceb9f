-- The log of a key: a sorted set of admissions in their order, scored with their
-- instants. A member is "sum:cost:id": the costs of all admissions up to it, its
-- own, and who it is, or "" for a batch of merged ones. A window thus holds
-- (the last one's sum) - (the first one's sum - its cost), two look-ups.
--
-- A letter stands before the sum, 'a' for one digit and so on: members of one
-- score, which Redis orders by their bytes, are then in order as well.
local LEAST_SINGLE = 32 -- so many of the latest are never merged
local MERGE_AT = 112 -- how many members start a merge; Redis keeps 128 compact
local FULL = 2147483647 -- no limit is higher

local function entry(member, score)
  local sum, cost, id = string.match(member, '^%l(%d+):(%d+):(.*)$')
  return sum and { sum = tonumber(sum), cost = tonumber(cost), id = id, at = tonumber(score) }
end

local function member(sum, cost, id)
  sum = digits(sum)
  return string.char(96 + #sum) .. sum .. ':' .. digits(cost) .. ':' .. id
end

-- The entries from a score on, oldest first; nil if one is not ours.
local function load(from)
  local raw = redis.call('ZRANGEBYSCORE', log, from, '+inf', 'WITHSCORES')
  local entries = {}
  for i = 1, #raw, 2 do
    local e = entry(raw[i], raw[i + 1])
    if not e then return nil end
    entries[#entries + 1] = e
  end
  return entries
end

-- Puts entries in the place of all that have at least the score from.
local function rewrite(from, sum, entries)
  redis.call('ZREMRANGEBYSCORE', log, from, '+inf')
  local args = {}
  for i, e in ipairs(entries) do
    sum = sum + e.cost
    args[#args + 1] = digits(e.at)
    args[#args + 1] = member(sum, e.cost, e.id)
    if #args >= 1000 or i == #entries then
      redis.call('ZADD', log, unpack(args))
      args = {}
    end
  end
end

-- Takes for full what holds something else than a log: not knowing what was
-- admitted, it admits nothing that might be too much.
local function refill()
  redis.call('DEL', log)
  redis.call('ZADD', log, digits(now), member(FULL, FULL, ''))
  return { sum = FULL, cost = FULL, id = '', at = now }
end

-- Forgets what has left the longest window, and returns the latest entry or nil.
local function trim(retention)
  if not typed('ZREMRANGEBYSCORE', log, '-inf', digits(now - retention)) then return refill() end
  local raw = redis.call('ZRANGE', log, -1, -1, 'WITHSCORES')
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

-- Merges old entries into batches of at most quantum(age): the costs that may be
-- counted too long. A batch has the time of its latest part, so nothing is
-- forgotten too early.
local function merge(quantum)
  local entries, merged = load('-inf'), {}
  if not entries then return end
  for i, e in ipairs(entries) do
    local last, cost, id = merged[#merged], e.cost, e.id
    if last and i <= #entries - LEAST_SINGLE then
      local room = math.min(quantum(now - e.at) - last.cost, cost)
      if room > 0 then
        last.cost, last.at, last.id = last.cost + room, e.at, ''
        cost, id = cost - room, ''
      end
    end
    if cost > 0 then merged[#merged + 1] = { cost = cost, at = e.at, id = id } end
  end
  if #merged < #entries then rewrite('-inf', entries[1].sum - entries[1].cost, merged) end
end
