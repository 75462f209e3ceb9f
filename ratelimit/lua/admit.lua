-- Admits one request under every limit of a key, or under none.
--
-- KEYS     as declared at the head, where the limiter has use for them: the log
--          of admissions, even rates, requests in flight, strikes, the ban
-- ARGV[1]  id of this request: a second run with the same id changes nothing
-- ARGV[2]  its cost; 0 only looks, on behalf of a request of cost 1
-- ARGV[3]  the longest window, in µs
-- ARGV[4…] four for each limit: its kind (w, s, f or b), and three numbers
-- ARGV[#]  "again", on the second run
--
-- Returns { 1 admitted, 0 denied or 2 banned, now, how long banned,
--           then for each limit: remaining, µs until that grows,
--           µs until it would admit (0 it does, -1 never, -2 nobody knows) }
local reply = { 1, now, 0 }

if policy.b then
  local left = policy.b.left()
  if left > 0 then reply[1], reply[3] = 2, left end
end

local seen = false
for _, p in pairs(policy) do
  local at = p.seen and p.seen()
  if at then
    seen = true
    if at ~= true then reply[2] = at end -- by which it is found again
  end
end

local tiers, strike, never = {}, nil, false
for i = 4, #ARGV - 3, 4 do
  local a, b, c = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  if ARGV[i] == 'b' then
    strike = { a, b, c }
  else
    local tier = { policy = policy[ARGV[i]] }
    tier.policy.check(tier, a, b, c)
    if tier.wait ~= 0 and not seen and reply[1] == 1 then reply[1] = 0 end
    if tier.wait == -1 then never = true end
    tiers[#tiers + 1] = tier
  end
end

if reply[1] == 1 and cost > 0 and not seen then
  for _, tier in ipairs(tiers) do tier.policy.commit(tier) end
  for _, p in pairs(policy) do
    if p.done then reply[2] = p.done() or reply[2] end
  end
elseif reply[1] ~= 1 then
  for _, tier in ipairs(tiers) do tier.policy.denied(tier) end
  if strike and reply[1] == 0 and cost > 0 and not never then
    reply[3] = policy.b.strike(strike[1], strike[2], strike[3])
    if reply[3] > 0 then reply[1] = 2 end
  end
end

for _, tier in ipairs(tiers) do
  reply[#reply + 1] = tier.remaining
  reply[#reply + 1] = tier.reset
  reply[#reply + 1] = seen and 0 or tier.wait
end
return reply
