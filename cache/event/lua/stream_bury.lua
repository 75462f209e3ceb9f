-- Moves an entry that cannot be handled to the dead letters, if it is the consumer's.
--
-- KEYS[1]  the stream
-- KEYS[2]  its dead letters
-- ARGV[1]  the group
-- ARGV[2]  the consumer
-- ARGV[3]  the entry's id
-- ARGV[4]  the payload
-- ARGV[5]  the last error
-- ARGV[6]  how often it was delivered
-- ARGV[7]  how many dead letters are kept, roughly
-- ARGV[8]  how long they live after the last one, in ms
-- ARGV[9]  given to a second run
--
-- Returns 1, and 1 more for each older letter that had to make room; 0 if the entry is
-- not the consumer's.
local key, dead, group, id = KEYS[1], KEYS[2], ARGV[1], ARGV[3]
local wrong = misplaced(key, 'stream', dead, 'stream')
if wrong then return wrong end
local row = redis.call('XPENDING', key, group, id, id, 1)[1]
if not row and ARGV[9] then
  -- The first run may have done it.
  for _, letter in ipairs(redis.call('XREVRANGE', dead, '+', '-', 'COUNT', 100)) do
    if letter[2][2] == id and letter[2][4] == group then return 1 end
  end
end
if not row or row[2] ~= ARGV[2] then return 0 end
local before = redis.call('XLEN', dead)
redis.call('XADD', dead, 'MAXLEN', '~', ARGV[7], '*',
  'i', id, 'g', group, 'e', ARGV[5], 'c', ARGV[6], 'v', ARGV[4])
redis.call('PEXPIRE', dead, ARGV[8])
redis.call('XACK', key, group, id)
return before + 2 - redis.call('XLEN', dead)
