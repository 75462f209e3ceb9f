-- Stores one variant of an entry.
--
-- KEYS[1]  the hash of find.lua
-- ARGV[1]  the names that select
-- ARGV[2]  the variant
-- ARGV[3]  its bytes
-- ARGV[4]  how long to keep it, in ms
-- ARGV[5]  how many variants at most
local key, names, variant, ttl = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[4])
local by = redis.pcall('HGET', key, 'by')
-- Another type, no entry of ours, or variants told apart by other names: nothing
-- of it can be read any more. One variant too many: somebody may be making them.
if type(by) == 'table' or by ~= names
    or (redis.call('HLEN', key) > 2 * tonumber(ARGV[5])
      and redis.call('HEXISTS', key, 't:' .. variant) == 0) then
  redis.call('UNLINK', key)
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', key, 'by', names, 'v:' .. variant, ARGV[3],
  't:' .. variant, string.format('%.0f %.0f', now, now + ttl))
-- The hash lives as long as its longest-lived variant. Without a lifetime (-1,
-- after HSET or somebody's PERSIST) it gets this one's.
if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ttl) end
return 1
