-- Forgets a key that is not in flight, and says what was known of it.
--
-- KEYS[1]  see record.lua
--
-- Returns what look.lua does; the key is free then unless it is busy.
local r, failure = look()
if not r then return failure end
if not r.id then return { 'free', now } end
if not r.done and r.ends > now then return { 'busy', now, r.since, math.ceil((r.ends - now) / 1000) } end
local outcome = redis.call('HGET', KEYS[1], 'outcome')
redis.call('DEL', KEYS[1])
if r.done then return { 'kept', now, r.since, outcome } end
return { 'interrupted', now, r.since }
