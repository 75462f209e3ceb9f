local id, cost = ARGV[1], tonumber(ARGV[2])
local need = math.max(cost, 1)
local again = (#ARGV - 3) % 4 == 1
local policy = {} -- by a limit's kind
