-- Stores a variant of a resource, unless an invalidation has come since it was asked for.
--
-- KEYS[1]  the resource, KEYS[2] lease of the variant that was asked for, KEYS[3] the
--          shard's hash
-- ARGV[1]  the resource's name, ARGV[2] token of the lease; '' if there is none
-- ARGV[3] to ARGV[8] as in fill.lua; the flags say where the body is: see body.lua
-- ARGV[9]  variant, ARGV[10] the names it is one by
-- ARGV[11] the number of the last write, and ARGV[12] the epoch, when it was asked for
-- ARGV[13] how many variants a resource may have, ARGV[14] what to wake
-- ARGV[15] begins an epoch if need be
-- ARGV[16] for how many ms nobody waits for what is not fresh when it is stored
-- ARGV[17] the body, if it is new and is to stand beside the entry
-- ARGV[18] 1 if the body is that of a variant which is stored, ARGV[19] that variant
-- ARGV[20] for how many ms chunks outlast their entry
--
-- Returns { 1, n, epoch } if it was stored, else { 0 }.
local l = leased(KEYS[2])
local mine = l and l.token == ARGV[2]
if mine and ARGV[3] == '0' then
  redis.call('SET', KEYS[2], 'P', 'PX', ARGV[16])
elseif mine or text(KEYS[2]) == 'P' and ARGV[3] ~= '0' then
  redis.call('UNLINK', KEYS[2])
end
if mine then
  if l.waited then wake(ARGV[14]) end
end
local at, s, born, epoch = now(), look(), tonumber(ARGV[11]), ARGV[12]
if epoch == '' then -- there was none: all writes of this one have come since
  s = s or open(ARGV[15])
  epoch = s.e
end
local r = redis.pcall('HMGET', KEYS[1], 'by', 'd', 's')
if r.err then
  redis.call('UNLINK', KEYS[1])
  r = {}
end
local new, grace, same = body(ARGV[6]), tonumber(ARGV[20]), ARGV[18] == '1'
local function refuse()
  for i = 0, same and -1 or new.n - 1 do redis.call('UNLINK', chunk(new.id, i)) end
  return { 0 }
end
if not s or born < s.b or born < (whole(r[2]) or 0) or covered(s, ARGV[1], epoch, born, nil, ARGV[7]) then return refuse() end
local field, bytes = ':' .. ARGV[9], ARGV[17]
if same then
  local h = head(redis.call('HGET', KEYS[1], 'v:' .. ARGV[19]))
  if not h or h.flags ~= ARGV[6] then return refuse() end -- it has another body by now
  bytes = nil
  if r[1] ~= ARGV[10] or ARGV[19] ~= ARGV[9] then bytes = redis.call('HGET', KEYS[1], 'b:' .. ARGV[19]) or '' end
end
if not extend(new, digits(ARGV[4] + grace)) then return refuse() end

-- What is replaced has chunks that others may be reading still.
local function replace(name)
  local h = head(redis.call('HGET', KEYS[1], 'v' .. name))
  if h and h.flags ~= ARGV[6] then retire(body(h.flags), grace) end
end
local replaced, others = redis.call('HEXISTS', KEYS[1], 'v' .. field) == 1, {}
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(name, 1, 2) == 'v:' then others[#others + 1] = string.sub(name, 2) end
end
if r[1] and r[1] ~= ARGV[10] or not replaced and #others >= tonumber(ARGV[13]) then
  for _, name in ipairs(others) do replace(name) end
  redis.call('UNLINK', KEYS[1])
  if r[2] then redis.call('HSET', KEYS[1], 'd', r[2]) end -- others may still be under way
  if r[3] then redis.call('HSET', KEYS[1], 's', r[3]) end
  replaced = true
elseif replaced then
  replace(field)
end
if replaced then write(s, 'r', string.match(KEYS[1], '[^:]*$')) end -- near tiers may hold the older one
redis.call('HSET', KEYS[1], 'by', ARGV[10], 'v' .. field, compose(s, born, at))
if bytes == '' then
  redis.call('HDEL', KEYS[1], 'b' .. field)
elseif bytes then
  redis.call('HSET', KEYS[1], 'b' .. field, bytes)
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return { 1, s.n, s.e }
