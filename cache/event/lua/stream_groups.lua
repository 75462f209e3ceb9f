-- Tells of the groups of a stream.
--
-- KEYS[1]  the stream
-- KEYS[2]  its meta
--
-- Returns what XINFO GROUPS and HGETALL say, nothing for a stream that is not there.
local key, meta = KEYS[1], KEYS[2]
local wrong = misplaced(key, 'stream', meta, 'hash')
if wrong then return wrong end
if redis.call('EXISTS', key) == 0 then return { {}, {} } end
return { redis.call('XINFO', 'GROUPS', key), redis.call('HGETALL', meta) }
