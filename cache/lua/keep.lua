-- Stores a variant of a resource, unless an invalidation has come since it was asked for.
--
-- KEYS[1]  the resource, KEYS[2] lease of the variant that was asked for, KEYS[3] the
--          shard's hash
-- ARGV[1]  the resource's name, ARGV[2] token of the lease; '' if there is none
-- ARGV[3] to ARGV[8] as in fill.lua
-- ARGV[9]  variant, ARGV[10] the names it is one by
-- ARGV[11] the number of the last write, and ARGV[12] the epoch, when it was asked for
-- ARGV[13] how many variants a resource may have, ARGV[14] what to wake
-- ARGV[15] begins an epoch if need be
-- ARGV[16] for how many ms nobody waits for what is not fresh when it is stored
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
if not s or born < s.b or born < (whole(r[2]) or 0) or covered(s, ARGV[1], epoch, born, nil, ARGV[7]) then return { 0 } end
local field = 'v:' .. ARGV[9]
local replaced = redis.call('HEXISTS', KEYS[1], field) == 1
local marks = (r[1] and 1 or 0) + (r[2] and 1 or 0) + (r[3] and 1 or 0)
if r[1] and r[1] ~= ARGV[10] or not replaced and redis.call('HLEN', KEYS[1]) - marks >= tonumber(ARGV[13]) then
  redis.call('UNLINK', KEYS[1])
  if r[2] then redis.call('HSET', KEYS[1], 'd', r[2]) end -- others may still be under way
  if r[3] then redis.call('HSET', KEYS[1], 's', r[3]) end
  replaced = true
end
if replaced then write(s, 'r', string.match(KEYS[1], '[^:]*$')) end -- near tiers may hold the older one
redis.call('HSET', KEYS[1], 'by', ARGV[10], field, compose(s, born, at))
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return { 1, s.n, s.e }
