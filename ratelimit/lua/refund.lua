-- Takes back one admission, if it is still there to be found.
--
-- KEYS     as declared at the head
-- ARGV[1]  the admission's id
-- ARGV[2]  its cost
-- ARGV[3]  its instant
-- ARGV[4]  the longest window, in µs
-- ARGV[5…] two for each even rate: its window, its number of requests
--
-- Returns 1 if it was found, else 0: it has left the window, was taken back
-- before, or was merged with others.
local id, cost, instant = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local found = false

if log and typed('ZCARD', log) then
  local entries, kept = load(instant), {}
  for _, e in ipairs(entries or {}) do
    if not found and e.id == id and e.at > now - ARGV[4] then
      found, cost = true, e.cost
    else
      kept[#kept + 1] = e
    end
  end
  -- The sums of all later ones are less by its cost.
  if found then rewrite(instant, entries[1].sum - entries[1].cost, kept) end
end

if smooth then
  local ids = typed('HGET', smooth, 'ids')
  if type(ids) ~= 'string' then ids = '' end
  -- What it cost is what was noted, whatever the ticket says.
  local from, to = string.find(',' .. ids, ',' .. id .. ':', 1, true)
  if from then
    local noted, stop = string.match(ids, '^(%d+),()', to)
    cost, to = tonumber(noted) or 0, (stop or to + 1) - 1
    if not log then found = true end
  end
  if found then
    for i = 5, #ARGV - 1, 2 do
      local window, limit = ARGV[i], tonumber(ARGV[i + 1])
      local stored = redis.call('HGET', smooth, window)
      local level, at = string.match(stored or '', '^(%S+) (%d+)$')
      if level then
        level = math.max(0, tonumber(level) - math.max(0, now - at) * limit / window - cost)
        redis.call('HSET', smooth, window, string.format('%.17g', level) .. ' ' .. digits(now))
      end
    end
    if from then
      redis.call('HSET', smooth, 'ids', string.sub(ids, 1, from - 1) .. string.sub(ids, to + 1))
    end
  end
end

if flight and typed('ZREM', flight, id) == 1 and not log and not smooth then found = true end
return found and 1 or 0
