-- Adds what a process admitted by itself while Redis was silent.
--
-- KEYS     as declared at the head
-- ARGV[1]  the longest window, in µs
-- ARGV[2]  how many admissions
-- ARGV[3…] three for each: its age in µs, its cost, its id
-- ARGV[…]  two for each even rate: its window, its number of requests
--
-- One that is there already is not added again. Returns 1.
local retention, stop = tonumber(ARGV[1]), 3 * tonumber(ARGV[2])

if log then
  trim(retention)
  local entries, known = load('-inf'), {}
  if not entries then
    refill()
    entries = load('-inf')
  end
  local sum = entries[1] and entries[1].sum - entries[1].cost or 0
  for _, e in ipairs(entries) do known[e.id] = true end
  for i = 3, stop, 3 do
    local age, id = tonumber(ARGV[i]), ARGV[i + 2]
    if age < retention and not known[id] then
      entries[#entries + 1] = { at = now - age, cost = tonumber(ARGV[i + 1]), id = id }
    end
  end
  if entries[1] then
    table.sort(entries, function(a, b) return a.at < b.at end)
    rewrite('-inf', sum, entries)
    expire(log, retention)
  end
end

if smooth then
  typed('HGET', smooth, 'ids')
  for i = stop + 3, #ARGV - 1, 2 do
    local window, rate = ARGV[i], tonumber(ARGV[i + 1]) / tonumber(ARGV[i])
    local stored = redis.call('HGET', smooth, window)
    local level, at = string.match(stored or '', '^(%S+) (%d+)$')
    level = math.max(0, (tonumber(level) or 0) - math.max(0, now - (tonumber(at) or now)) * rate)
    for j = 3, stop, 3 do
      level = level + math.max(0, tonumber(ARGV[j + 1]) - tonumber(ARGV[j]) * rate)
    end
    redis.call('HSET', smooth, window, string.format('%.17g', level) .. ' ' .. digits(now))
    expire(smooth, math.max(level / rate, 1000 * redis.call('PTTL', smooth)))
  end
end
return 1
