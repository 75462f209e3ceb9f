-- Reads one variant of an entry, and how the entry's variants are told apart.
--
-- KEYS[1]  hash: "by" the names that select, and for each variant V its bytes
--          in "v:V", and in "t:V" the instants it was stored and it ends, two
--          numbers in ms of Redis TIME
-- ARGV[1]  the variant
--
-- Returns nil if there is no entry, else
-- { names, now in ms, ms the variant was stored at or nil, its bytes or nil }
local e = redis.pcall('HMGET', KEYS[1], 'by', 't:' .. ARGV[1], 'v:' .. ARGV[1])
-- A key of another type is no entry; the next store replaces it.
if e.err or not e[1] then return false end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at, till = string.match(e[2] or '', '^(%d+) (%d+)$')
at, till = at and tonumber(at), till and tonumber(till)
-- The hash lives on for other variants, or for one with a longer life that this
-- one has replaced.
if not at or not till or not e[3] or now >= till then
  if e[1] == '' then return false end
  return { e[1], now, false, false }
end
return { e[1], now, at, e[3] }
