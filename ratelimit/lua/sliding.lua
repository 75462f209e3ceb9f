-- Sliding windows over the log. A limit's numbers are window, limit, and how much
-- a batch may hold.
local retention = tonumber(ARGV[3])
local windows, merging = {}, false
for i = 4, #ARGV - 3, 4 do
  if ARGV[i] == 'w' then
    local window, quantum = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 3])
    windows[#windows + 1] = { window, quantum }
    if quantum > 1 then merging = true end
  end
end
local last = trim(retention)
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

local sliding = {}
policy.w = sliding

function sliding.seen()
  if not last then return false end
  if last.id == id then return true end
  if again then
    local raw = redis.call('ZREVRANGE', log, 0, 127)
    for _, m in ipairs(raw) do
      local e = entry(m, 0)
      if e and e.id == id then return true end
    end
  end
  return false
end

function sliding.check(tier, window, limit)
  tier.window = window
  local raw = redis.call('ZRANGEBYSCORE', log, '(' .. digits(now - window), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  local first = raw[1] and entry(raw[1], raw[2])
  local before = first and first.sum - first.cost or total
  local used = total - before
  tier.remaining, tier.reset, tier.wait = math.max(0, limit - used), 0, 0
  -- How long until no more than so much of the window is used.
  local function down(to)
    local sum = math.max(total - to, before + 1)
    if not first then return 0 end
    return (first.sum >= sum and first.at or reaches(sum)) + window - now
  end
  if used > 0 then tier.reset = down(limit - 1) end
  if need > limit then
    tier.wait = -1
  elseif used + need > limit then
    tier.wait = down(limit - need)
  end
end

function sliding.commit(tier)
  tier.remaining = tier.remaining - cost
  if tier.reset == 0 then tier.reset = tier.window end
end

-- One entry for all windows.
function sliding.done()
  local instant = last and math.max(last.at, now) or now
  redis.call('ZADD', log, digits(instant), member(total + cost, cost, id))
  expire(log, retention)
  if merging then
    local n = redis.call('ZCARD', log)
    if n >= MERGE_AT and n % 16 == 0 then
      merge(function(age)
        local least = 1 / 0
        for _, t in ipairs(windows) do
          if t[1] > age then least = math.min(least, t[2]) end
        end
        return least
      end)
    end
  end
  return instant
end

-- A denial changes nothing, but a key that lost its expiry gets it back.
function sliding.denied()
  if last and redis.call('PTTL', log) < 0 then expire(log, retention) end
end
