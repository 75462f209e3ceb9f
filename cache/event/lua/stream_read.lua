-- Reads entries after a position, without a group.
--
-- KEYS[1]  the stream
-- ARGV[1]  the position: an entry's id, 0 for the oldest entry, $ for the last one
-- ARGV[2]  how many entries are wanted
--
-- Returns the position to go on from if there are no entries; 1 if entries after the
-- position may be gone, else 0; and the entries.
local key, after, want = KEYS[1], ARGV[1], ARGV[2]
local wrong = misplaced(key, 'stream')
if wrong then return wrong end
if after == '$' then
  local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  return { last and last[1] or '0', 0, {} }
end
local entries = redis.call('XRANGE', key, '(' .. after, '+', 'COUNT', want)
if after == '0' or #redis.call('XRANGE', key, after, after) > 0 then return { after, 0, entries } end
-- The position was trimmed, and what followed it may have been too. If nothing is
-- after it, the stream is a new one and its entries are all unread.
if #entries == 0 then entries = redis.call('XRANGE', key, '-', '+', 'COUNT', want) end
return { #entries == 0 and '0' or after, 1, entries }
