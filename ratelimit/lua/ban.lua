-- Bans: a string with the instant of the ban's end, and a sorted set of the
-- denials that may lead to one. ARGV ends with { 'b', denials, within, lasting }.
local bans = {}
policy.b = bans

function bans.left()
  local ends = typed('GET', ban)
  local left = type(ends) == 'string' and (tonumber(ends) or 0) - now or 0
  if left > 0 and redis.call('PTTL', ban) == -1 then expire(ban, left) end
  return left
end

-- Counts a denial, and returns how long the ban lasts that it leads to, or 0.
function bans.strike(denials, within, lasting)
  typed('ZCARD', strikes)
  redis.call('ZADD', strikes, 'NX', digits(now), id)
  redis.call('ZREMRANGEBYSCORE', strikes, '-inf', digits(now - within))
  if redis.call('ZCARD', strikes) < denials then
    expire(strikes, within)
    return 0
  end
  redis.call('DEL', strikes)
  redis.call('SET', ban, digits(now + lasting), 'PX', digits(math.ceil(lasting / 1000) + 1))
  return lasting
end
