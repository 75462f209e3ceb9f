-- Even rates (GCRA). The hash has a field for each window: "level instant", where
-- the level, in requests, sinks by limit/window; and "ids", the latest admissions.
local IDS = 32

local smoothly, levels, rest = {}, {}, 0
policy.s = smoothly
local ids = typed('HGET', smooth, 'ids')
local refilled = not ids -- another type: taken for full, as the log is
if type(ids) ~= 'string' then ids = '' end

function smoothly.seen()
  return string.find(',' .. ids, ',' .. id .. ':', 1, true) ~= nil
end

function smoothly.check(tier, window, limit, burst)
  tier.window, tier.rate, tier.burst = window, limit / window, burst
  local stored = redis.call('HGET', smooth, digits(window))
  local level, at = string.match(stored or '', '^(%S+) (%d+)$')
  level, at = tonumber(level) or 0, tonumber(at) or now
  if refilled then level = burst end
  if at > now + 1000000 then
    at = now -- the clock was set back: nobody is kept out until it is there again
    redis.call('HSET', smooth, digits(window), string.format('%.17g', level) .. ' ' .. digits(now))
  end
  tier.level = math.max(0, level - math.max(0, now - at) * tier.rate)
  if need > burst then
    tier.wait = -1
  else
    -- What is less than a ten-millionth of a request is an error of rounding.
    local over = tier.level + need - burst
    tier.wait = over > 1e-7 and math.ceil(over / tier.rate) or 0
  end
  smoothly.tell(tier)
end

function smoothly.tell(tier)
  local room = tier.burst - tier.level
  tier.remaining = math.max(0, math.floor(room + 1e-7))
  tier.reset = 0
  if tier.level > 1e-7 then
    tier.reset = math.ceil((tier.remaining + 1 - room) / tier.rate)
    if tier.remaining >= tier.burst then tier.reset = math.ceil(tier.level / tier.rate) end
  end
end

function smoothly.commit(tier)
  tier.level = tier.level + cost
  levels[#levels + 1] = digits(tier.window)
  levels[#levels + 1] = string.format('%.17g', tier.level) .. ' ' .. digits(now)
  rest = math.max(rest, tier.level / tier.rate)
  smoothly.tell(tier)
end

function smoothly.done()
  local _, stop = string.find(ids, string.rep('[^,]*,', IDS - 1))
  ids = id .. ':' .. digits(cost) .. ',' .. string.sub(ids, 1, stop or -1)
  levels[#levels + 1] = 'ids'
  levels[#levels + 1] = ids
  redis.call('HSET', smooth, unpack(levels))
  -- A plan with another window may have a level here that sinks for longer.
  expire(smooth, math.max(rest, 1000 * redis.call('PTTL', smooth)))
end

function smoothly.denied(tier)
  if refilled or redis.call('PTTL', smooth) == -1 then
    redis.call('HSET', smooth, digits(tier.window), string.format('%.17g', tier.level) .. ' ' .. digits(now))
    expire(smooth, tier.level / tier.rate)
  end
end
