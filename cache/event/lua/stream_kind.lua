-- Before all other scripts of streams: what to do with a key of another type.

-- misplaced is an error if a key holds something else: it gets keys, each followed by
-- the type that is right. Where a command fails in a script, Redis 6.2 hides the
-- error's code in a text of its own.
local function misplaced(...)
  local expected = { ... }
  for i = 1, #expected, 2 do
    local kind = redis.call('TYPE', expected[i]).ok
    if kind ~= expected[i + 1] and kind ~= 'none' then
      return redis.error_reply('WRONGTYPE ' .. expected[i] .. ' holds a ' .. kind)
    end
  end
end
