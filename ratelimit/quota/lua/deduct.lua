-- Takes an amount from a balance that has it, else nothing.
--
-- KEYS[1]  the account, see account.lua
-- ARGV[1]  the request's id
-- ARGV[2]  the amount
-- ARGV[3]  the call: a request repeated by another call is told so
-- ARGV[4]  how long the request is remembered, in µs
-- ARGV[5]  1 if a refusal is to be remembered as well
-- ARGV[6]  how many requests are remembered at most
--
-- Returns what account.lua says, of outcome 'done' or 'insufficient'.
local a, failure = open(ARGV[1])
if not a then return failure end
local amount, call, lifetime, named = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
if a.record then return again(a.record, 'deduct', amount, call) end
if full(tonumber(ARGV[6])) then return { 'full', 'requests' } end
if amount > a.balance then
  return conclude(a, 'deduct', 'insufficient', amount, call, lifetime, named)
end
a.balance = a.balance - amount
return conclude(a, 'deduct', 'done', amount, call, lifetime, named)
