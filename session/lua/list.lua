-- Lists some of a user's sessions, and forgets some that are past their time.
--
-- ARGV[1]  the cursor: "0", then what the last step returned
-- ARGV[2]  about how many to look at
--
-- Returns { cursor, "0" when all were seen, then for each its id, score and info }.
-- One may be listed twice; each that was there all the while is listed.
local page = redis.call('HSCAN', info, ARGV[1], 'COUNT', ARGV[2])
local reply, found, lost = { page[1] }, {}, {}
for i = 1, #page[2], 2 do found[#found + 1] = page[2][i] end
for from = 1, #found, CHUNK do
  local scores = redis.call('ZMSCORE', ids, unpack(found, from, math.min(from + CHUNK - 1, #found)))
  for i, score in ipairs(scores) do
    local id, n = found[from + i - 1], #reply
    if not score then
      lost[#lost + 1] = id -- somebody removed ids, and with it all sessions
    elseif tonumber(score) > now then
      reply[n + 1], reply[n + 2], reply[n + 3] = id, digits(tonumber(score)), page[2][2 * (from + i - 1)]
    end
  end
end
local stale = past(ARGV[2])
if #lost + #stale > 0 then
  forget(lost)
  forget(stale)
  settle()
end
return reply
