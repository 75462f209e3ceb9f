-- Moves an amount from a balance that has it into a hold, which returns it by
-- itself at its end.
--
-- KEYS[1]  the account, see account.lua
-- ARGV[1]  the request's id, and the hold's
-- ARGV[2]  the amount
-- ARGV[3]  the call: a request repeated by another call is told so
-- ARGV[4]  how long the request is remembered after the hold's end, in µs
-- ARGV[5]  1 if a refusal is to be remembered as well
-- ARGV[6]  how many requests are remembered at most
-- ARGV[7]  how long the hold lasts, in µs
-- ARGV[8]  how many holds are open at most
--
-- Returns what account.lua says, of outcome 'done' or 'insufficient'.
local a, failure = open(ARGV[1])
if not a then return failure end
local amount, call, lifetime, named = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
if a.record then return again(a.record, 'reserve', amount, call) end
if full(tonumber(ARGV[6])) then return { 'full', 'requests' } end
if amount > a.balance then
  return conclude(a, 'reserve', 'insufficient', amount, call, lifetime, named)
end
if redis.call('ZCOUNT', key, '(' .. digits(-IDS), '(0') - #a.drop >= tonumber(ARGV[8]) then
  return { 'full', 'holds' }
end
local expires = now + tonumber(ARGV[7])
a.balance, a.held = a.balance - amount, a.held + amount
a.add = { digits(-expires), 'h' .. a.id .. ' ' .. digits(amount) }
return conclude(a, 'reserve', 'done', amount, call, lifetime, named, expires)
