-- Adds an amount to a balance, unless the account would then have more than 2^53.
--
-- KEYS[1]  the account, see account.lua
-- ARGV[1]  the request's id
-- ARGV[2]  the amount
-- ARGV[3]  the call: a request repeated by another call is told so
-- ARGV[4]  how long the request is remembered, in µs
-- ARGV[5]  1 if a refusal is to be remembered as well
-- ARGV[6]  how many requests are remembered at most
--
-- Returns what account.lua says, of outcome 'done' or 'overflow'.
local a, failure = open(ARGV[1])
if not a then return failure end
local amount, call, lifetime, named = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
if a.record then return again(a.record, 'topup', amount, call) end
if full(tonumber(ARGV[6])) then return { 'full', 'requests' } end
-- The sum itself may not fit into a double: 2^53 + 1 is 2^53.
if amount > MOST - a.balance - a.held then
  return conclude(a, 'topup', 'overflow', amount, call, lifetime, named)
end
a.balance = a.balance + amount
return conclude(a, 'topup', 'done', amount, call, lifetime, named)
