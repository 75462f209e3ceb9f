-- What all scripts begin with. Time is Redis's, in µs.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- Lua would write 1.76e+15; Redis must get every digit.
local function digits(n) return string.format('%.0f', n) end

-- Runs a command on a key that may hold another type, which somebody else put
-- there. Then it removes the key and returns false: what it counted is not known.
local function typed(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) == 'table' and reply.err then
    if not string.find(reply.err, 'WRONGTYPE', 1, true) then
      redis.call(command, key, ...) -- to fail in the server's own words
    end
    redis.call('DEL', key)
    return false
  end
  return reply or true
end

-- The rest of a key's life, from now on in µs.
local function expire(key, rest)
  redis.call('PEXPIRE', key, digits(math.ceil(rest / 1000) + 1))
end
