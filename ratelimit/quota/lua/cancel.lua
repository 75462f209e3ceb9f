-- Returns a hold to the balance.
--
-- KEYS[1]  the account, see account.lua
-- ARGV[1]  the hold's id
-- ARGV[2]  the call: a cancel repeated by another call is told so
--
-- Returns what account.lua says, of outcome 'done', 'expired', 'committed',
-- 'cancelled' or 'unknown'.
local a, failure = open(ARGV[1])
if not a then return failure end
return close(a, 'cancel', nil, 0, ARGV[2])
