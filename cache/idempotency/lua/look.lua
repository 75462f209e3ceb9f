-- Says what is known of a key. It changes nothing.
--
-- KEYS[1]  see record.lua
--
-- Returns { 'free', now }, { 'kept', now, since, outcome }, { 'busy', now, since, ms
-- left }, { 'interrupted', now, since }, or what record.lua says. Instants are in µs.
local r, failure = look()
if not r then return failure end
if not r.id then return { 'free', now } end
if r.done then return { 'kept', now, r.since, redis.call('HGET', KEYS[1], 'outcome') } end
if r.ends > now then return { 'busy', now, r.since, math.ceil((r.ends - now) / 1000) } end
return { 'interrupted', now, r.since }
