-- Stores an entry, whatever was there. A load under way is not stored any more.
--
-- KEYS, and ARGV from the third on, as in fill.lua; ARGV[2] begins an epoch if need be.
--
-- Returns { 1, n, epoch }.
local at, s = now(), open(ARGV[2])
spoil(KEYS[2], ARGV[1])
write(s, 'k', ARGV[1])
put(s, s.n, at)
return { 1, s.n, s.e }
