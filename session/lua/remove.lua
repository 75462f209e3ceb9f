-- Ends one session.
--
-- KEYS[3]  gone: hash, where what it was is kept for the second run
-- ARGV[1]  the session's id
-- ARGV[2]  "again", on the second run
--
-- Returns { id, score, info }, or {} if it was not alive; the second run has ""
-- for the score. It works when Redis is out of memory: its first write is one that
-- needs none, and lets all that follow pass.
local gone, id = KEYS[3], ARGV[1]
local score = redis.call('ZSCORE', ids, id)
local value = redis.call('HGET', info, id) or ''
local trace = redis.call('HGET', gone, id)
if not score then
  if trace and ARGV[2] == 'again' then return { id, '', trace } end
  return {}
end
forget({ id })
redis.call('HSET', gone, id, value)
redis.call('PEXPIRE', gone, MINUTE)
settle()
return { id, digits(tonumber(score)), value }
