-- Requests in flight: a sorted set of ids, scored with the ends of their leases.
local flying = {}
policy.f = flying
if not typed('ZCARD', flight) then
  -- Another type: who is in flight is not known, so nobody is let in for a lease.
  for i = 4, #ARGV - 3, 4 do
    if ARGV[i] == 'f' then
      for n = 1, math.min(10000, tonumber(ARGV[i + 2])) do
        redis.call('ZADD', flight, digits(now + ARGV[i + 1]), '?' .. n)
      end
      expire(flight, tonumber(ARGV[i + 1]))
    end
  end
end

function flying.seen()
  return tonumber(redis.call('ZSCORE', flight, id) or 0) > now
end

function flying.check(tier, lease, limit)
  local n = redis.call('ZCOUNT', flight, '(' .. digits(now), '+inf')
  local first = redis.call('ZRANGEBYSCORE', flight, '(' .. digits(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  tier.lease, tier.remaining = lease, math.max(0, limit - n)
  tier.reset = first[2] and tonumber(first[2]) - now or 0
  tier.wait = n >= limit and -2 or 0
end

function flying.commit(tier)
  tier.remaining = tier.remaining - 1
  if tier.reset == 0 then tier.reset = tier.lease end
  flying.lease = tier.lease
end

function flying.done()
  redis.call('ZADD', flight, digits(now + flying.lease), id)
  redis.call('ZREMRANGEBYSCORE', flight, '-inf', digits(now))
  expire(flight, flying.lease)
end

function flying.denied(tier)
  if redis.call('PTTL', flight) == -1 then expire(flight, tier.lease) end
end
