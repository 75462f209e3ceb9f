-- What the scripts on bodies share, behind data.lua. The flags of a resource's entry say
-- "id.size.chunk" of its body: with a chunk of 0 it stands beside the entry, else in
-- chunks of so many bytes, each a key, which begin with a checksum; "-" is no body.
local MOST = 16384

local function chunk(id, i) return string.sub(META, 1, -2) .. 'c:' .. id .. ':' .. digits(i) end

-- What flags say: n is the number of chunks. nil if they say nothing that a Store has left.
local function body(flags)
  if flags == '-' then return { size = 0, n = 0 } end
  local id, size, bytes = string.match(flags, '^(%w+)%.(%d+)%.(%d+)$')
  size, bytes = whole(size), whole(bytes)
  if not size or not bytes then return nil end
  local n = bytes > 0 and math.ceil(size / bytes) or 0
  if n > MOST then return nil end
  return { id = id, size = size, n = n }
end

-- How many of the chunks from one to before another there are.
local function present(id, from, to)
  local count = 0
  while from < to do
    local keys = {}
    for i = from, math.min(from + 1000, to) - 1 do keys[#keys + 1] = chunk(id, i) end
    count, from = count + redis.call('EXISTS', unpack(keys)), from + #keys
  end
  return count
end

-- Has a body's chunks last for ms from now; false if one is missing.
local function extend(b, ms)
  for i = 0, b.n - 1 do
    if redis.call('PEXPIRE', chunk(b.id, i), ms) == 0 then return false end
  end
  return true
end

-- Has the chunks of a body that no entry needs any more last no longer than ms.
local function retire(b, ms)
  for i = 0, (b and b.n or 0) - 1 do
    local key = chunk(b.id, i)
    local left = redis.call('PTTL', key)
    if left > ms or left == -1 then redis.call('PEXPIRE', key, digits(ms)) end
  end
end
