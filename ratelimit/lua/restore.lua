-- Adds what a process admitted by itself while Redis was silent.
--
-- KEYS     as declared at the head
-- ARGV[1]  the longest window, in µs
-- ARGV[2]  how many admissions are for the log
-- ARGV[3]  how many even rates' levels are to be raised
-- ARGV[4]  how many requests are in flight
-- ARGV[5…] three for each admission: its age in µs, its cost, its id
-- ARGV[…]  five for each level: its window, its number of requests, by how much it
--          is to be raised, how long ago in µs that was found, an id
-- ARGV[…]  two for each request in flight: what is left of its lease in µs, its id
--
-- What is there already, by its id, is not added again. Returns 1.
local retention = tonumber(ARGV[1])
local levels = 5 + 3 * tonumber(ARGV[2])
local flights = levels + 5 * tonumber(ARGV[3])
local EARLIER = 2000000 -- it may have reached Redis so long before it was given up
local KEPT_IDS = 64

-- What holds another type is left to the decision, which takes it for full.
local function fits(key, kind)
  local is = redis.call('TYPE', key)
  is = type(is) == 'table' and is.ok or is
  return is == kind or is == 'none'
end

if log and levels > 5 then
  local last, oldest = latest(retention), 0
  for i = 5, levels - 1, 3 do oldest = math.max(oldest, tonumber(ARGV[i])) end
  local from = digits(now - math.min(oldest, retention) - EARLIER)
  local entries, known, more = load(from), {}, false
  if not entries then
    last = refill()
    entries = { last }
  end
  local sum = entries[1] and entries[1].sum - entries[1].cost or last and last.sum or 0
  for _, e in ipairs(entries) do known[e.id] = true end
  for i = 5, levels - 1, 3 do
    local age, id = tonumber(ARGV[i]), ARGV[i + 2]
    if age < retention and not known[id] then
      entries[#entries + 1] = { at = now - age, cost = tonumber(ARGV[i + 1]), id = id }
      more = true
    end
  end
  if more then
    table.sort(entries, function(a, b) return a.at < b.at end)
    rewrite(from, sum, entries)
    expire(log, retention)
  end
end

if smooth and flights > levels and fits(smooth, 'hash') then
  local ids = redis.call('HGET', smooth, 'ids') or ''
  for i = levels, flights - 1, 5 do
    local window, rate, id = ARGV[i], tonumber(ARGV[i + 1]) / tonumber(ARGV[i]), ARGV[i + 4]
    if not string.find(',' .. ids, ',' .. id .. ':', 1, true) then
      local stored = redis.call('HGET', smooth, window)
      local level, at = string.match(stored or '', '^(%S+) (%d+)$')
      level = math.max(0, (tonumber(level) or 0) - math.max(0, now - (tonumber(at) or now)) * rate)
      level = level + math.max(0, tonumber(ARGV[i + 2]) - tonumber(ARGV[i + 3]) * rate)
      ids = id .. ':0,' .. ids -- it cannot be refunded
      redis.call('HSET', smooth, window, string.format('%.17g', level) .. ' ' .. digits(now))
      expire(smooth, math.max(level / rate, 1000 * redis.call('PTTL', smooth)))
    end
  end
  local _, stop = string.find(ids, string.rep('[^,]*,', KEPT_IDS))
  redis.call('HSET', smooth, 'ids', string.sub(ids, 1, stop or -1))
end

if flight and flights <= #ARGV and fits(flight, 'zset') then
  for i = flights, #ARGV - 1, 2 do
    local rest = tonumber(ARGV[i])
    redis.call('ZADD', flight, 'NX', digits(now + rest), ARGV[i + 1])
    expire(flight, math.max(rest, 1000 * redis.call('PTTL', flight)))
  end
end
return 1
