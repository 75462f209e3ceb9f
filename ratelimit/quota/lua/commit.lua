-- Takes an amount out of a hold for good; the rest of it returns to the balance.
--
-- KEYS[1]  the account, see account.lua
-- ARGV[1]  the hold's id
-- ARGV[2]  the amount
-- ARGV[3]  the call: a commit repeated by another call is told so
--
-- Returns what account.lua says, of outcome 'done', 'expired', 'committed',
-- 'cancelled', 'exceeds' or 'unknown'.
local a, failure = open(ARGV[1])
if not a then return failure end
local amount = tonumber(ARGV[2])
return close(a, 'commit', amount, amount, ARGV[3])
