-- Brings dead letters back to life: each becomes a new entry of the stream, for its
-- group alone.
--
-- KEYS[1]  the stream
-- KEYS[2]  its meta
-- KEYS[3]  its dead letters
-- ARGV[1]  how many entries are kept, roughly
-- ARGV[2]  for how long they are kept, in ms
-- ARGV[3]  how long the keys live, in ms
-- ARGV[4…] the dead letters' ids
--
-- Returns how many there were.
local key, meta, dead = KEYS[1], KEYS[2], KEYS[3]
local wrong = misplaced(key, 'stream', meta, 'hash', dead, 'stream')
if wrong then return wrong end
local moved = 0
for i = 4, #ARGV do
  local letter = redis.call('XRANGE', dead, ARGV[i], ARGV[i])[1]
  if letter then
    local fields = { 'r', letter[1], 'v', valueOf(letter, 'v') or '', 'g', valueOf(letter, 'g') or '' }
    add(key, meta, ARGV[1], tonumber(ARGV[2]), ARGV[3], fields)
    redis.call('XDEL', dead, letter[1])
    moved = moved + 1
  end
end
return moved
