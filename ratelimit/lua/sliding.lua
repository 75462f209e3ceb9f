-- Sliding windows over the log. A limit's numbers are window, limit, and how much
-- a batch may hold.
local retention = tonumber(ARGV[3])
local last = latest(retention)
local total = last and last.sum or 0

local function at(rank)
  local raw = redis.call('ZRANGE', log, rank, rank, 'WITHSCORES')
  return raw[1] and entry(raw[1], raw[2])
end

-- The instant of the first entry whose sum is at least so much.
local function reaches(sum)
  local low, high, found = 0, redis.call('ZCARD', log) - 1, last
  while low <= high do
    local middle = math.floor((low + high) / 2)
    local e = at(middle)
    if not e then return now end
    if e.sum >= sum then found, high = e, middle - 1 else low = middle + 1 end
  end
  return found.at
end

-- How long until no more than so much is used of a window that begins with first,
-- before which there was so much.
local function down(to, window, first, before)
  local sum = math.max(total - to, before + 1)
  return (first.sum >= sum and first.at or reaches(sum)) + window - now
end

local sliding = {}
policy.w = sliding

-- The instant of this request's entry, if its first run has made one.
function sliding.seen()
  if not last then return false end
  if last.id == id then return last.at end
  if again then
    local raw = redis.call('ZREVRANGE', log, 0, 1023, 'WITHSCORES')
    for i = 1, #raw, 2 do
      local e = entry(raw[i], raw[i + 1])
      if e and e.id == id then return e.at end
    end
  end
  return false
end

function sliding.check(tier, window, limit)
  tier.window, tier.remaining, tier.reset, tier.wait = window, limit, 0, 0
  local raw = redis.call('ZRANGEBYSCORE', log, '(' .. digits(now - window), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  local used, first, before = 0, nil, total
  if raw[1] then
    first = entry(raw[1], raw[2])
    if not first or first.sum > total then -- not all of it is ours
      last = refill()
      first, total = last, last.sum
    end
    before = first.sum - first.cost
    used = total - before
    tier.remaining = math.max(0, limit - used)
    tier.reset = down(limit - 1, window, first, before)
  end
  if need > limit then
    tier.wait = -1
  elseif used + need > limit then
    tier.wait = down(limit - need, window, first, before)
  end
end

function sliding.commit(tier)
  tier.remaining = tier.remaining - cost
  if tier.reset == 0 then tier.reset = tier.window end
end

-- How much a batch may hold that is so old: the least of what the windows allow
-- that it is in; nil if it has left all.
local function quantum(age)
  local least
  for i = 4, #ARGV - 3, 4 do
    if ARGV[i] == 'w' and tonumber(ARGV[i + 1]) > age then
      least = math.min(least or FULL, tonumber(ARGV[i + 3]))
    end
  end
  return least
end

-- Merges once there is enough: all but the latest, and those which some window
-- counts one by one, have lost their ids if they were merged before.
local function tidy()
  local merging, single = false, 0
  for i = 4, #ARGV - 3, 4 do
    if ARGV[i] == 'w' and ARGV[i + 3] ~= '1' then
      merging = true
    elseif ARGV[i] == 'w' then
      single = math.max(single, tonumber(ARGV[i + 1]))
    end
  end
  if not merging then return end
  local newest = LEAST_SINGLE
  if single > 0 then
    newest = math.max(newest, redis.call('ZCOUNT', log, '(' .. digits(now - single), '+inf'))
  end
  local raw = redis.call('ZRANGE', log, -newest - MERGE_AFTER, -newest - MERGE_AFTER)
  if raw[1] and string.sub(raw[1], -1) ~= ':' then merge(newest, quantum, total + cost) end
end

-- One entry for all windows.
function sliding.done()
  local instant = last and math.max(last.at, now) or now
  redis.call('ZADD', log, digits(instant), member(total + cost, cost, id))
  redis.call('ZREMRANGEBYSCORE', log, '-inf', digits(now - retention))
  tidy()
  expire(log, retention)
  return instant
end

-- A denial changes nothing, but a key that lost its expiry gets it back.
function sliding.denied()
  if last and redis.call('PTTL', log) < 0 then expire(log, retention) end
  last = nil -- once for all limits
end
