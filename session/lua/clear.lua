-- Ends all sessions, or all but one. Logins that began before are beaten: see add.
--
-- KEYS[3]  ended: the mark for those
-- KEYS[4]  gone: where info goes as it is, to be drained
-- ARGV[1]  id of this call
-- ARGV[2]  the session that stays, or ""
-- ARGV[3]  the life of the mark, in ms
-- ARGV[4]  "again", on the second run
--
-- Returns 1 if there is something to drain, else 0. O(1): nothing is walked. It
-- works when Redis is out of memory: its first write is one that needs none, and
-- lets all that follow pass, the mark too.
local ended, gone, batch, keep = KEYS[3], KEYS[4], ARGV[1], ARGV[2]
local score = redis.call('ZSCORE', ids, keep)
local value = redis.call('HGET', info, keep)
local mark = redis.call('GET', ended)
if ARGV[4] == 'again' then
  -- A second run would end what has begun since the first.
  local filled = redis.call('EXISTS', gone)
  if filled == 1 or mark and string.match(mark, '^%d+%.(.*)$') == batch then return filled end
end

redis.call('UNLINK', ids)
if score and value then redis.call('HDEL', info, keep) end
local filled = redis.call('EXISTS', info)
if filled == 1 then
  redis.call('RENAME', info, gone)
  redis.call('PEXPIRE', gone, HOUR)
end
redis.call('SET', ended, digits(time[1] * 1000000 + time[2]) .. '.' .. batch, 'PX', ARGV[3])
if score then
  redis.call('ZADD', ids, digits(tonumber(score)), keep)
  if value then redis.call('HSET', info, keep, value) end
end
settle()
return filled
