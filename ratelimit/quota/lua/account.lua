-- One account: opened, changed in memory, and saved at the end. This text stands
-- before each of the other scripts.
--
-- KEYS[1]  sorted set, absent for an account that has nothing:
--            balance         score: what can be spent
--            held            score: what all open holds keep back
--            h<id> <amount>  an open hold; score: -(the instant it ends)
--            r<id>           a remembered request; score: -(2^52 + the instant it is forgotten)
--            d<id> <words>   what it was answered; score: that of r<id>
--
-- Instants are µs of Redis TIME. They stay below 2^52 until the year 2112, so the
-- three kinds of score lie in bands of their own, and each is an integer that a
-- double holds exactly.
--
-- Every script returns one of
--   { outcome, balance, held, amount, at, expires, repeated (0, 1), how a hold ended or '' }
--   { 'reused' }  { 'full', what }  { 'corrupt', why }
local MOST, IDS = 2 ^ 53, 2 ^ 52
local key = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- Lua would write 1.76e+15; Redis must get every digit.
local function digits(n) return string.format('%.0f', n) end

-- The amount or instant in text; nil if there is none, so that nothing is
-- reckoned with it.
local function whole(text)
  local n = tonumber(text or nil)
  if n and n >= 0 and n <= MOST and n % 1 == 0 then return n end
end

local function corrupt(why) return nil, { 'corrupt', why } end

local words = { 'call', 'op', 'outcome', 'amount', 'balance', 'held', 'at', 'expires',
  'endOp', 'endCall', 'endAmount', 'endBalance', 'endHeld', 'endAt' } -- the last six once a hold is closed
local texts = { call = true, op = true, outcome = true, endOp = true, endCall = true }

-- What is remembered of id, whose r member has score; nil if it does not decode.
local function read(id, score)
  local head = 'd' .. id .. ' '
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, digits(score), digits(score))) do
    if string.sub(member, 1, #head) == head then
      local record, n = { member = member, score = score }, 0
      for word in string.gmatch(string.sub(member, #head + 1), '%S+') do
        n = n + 1
        local name = words[n]
        if not name then return nil end
        record[name] = texts[name] and word or whole(word)
        if not record[name] then return nil end
      end
      if n ~= 8 and n ~= #words then return nil end
      return record
    end
  end
end

-- The account, with every hold that has ended returned to its balance, and with
-- what is remembered of id. If that cannot be had: nil, and what to return.
local function open(id)
  local scores = redis.pcall('ZMSCORE', key, 'balance', 'held', 'r' .. id)
  if scores.err then return nil, scores end
  local a = { id = id, balance = whole(scores[1]), held = whole(scores[2]), add = {}, drop = {} }
  if not scores[1] and not scores[2] and redis.call('EXISTS', key) == 0 then
    a.balance, a.held = 0, 0
  elseif not a.balance or not a.held or a.held > MOST - a.balance then
    return corrupt('balance and held are no amounts')
  end
  for _, hold in ipairs(redis.call('ZREVRANGEBYSCORE', key, '(0', digits(-now))) do
    local amount = whole(string.match(hold, '^h%S+ (%d+)$'))
    if not amount or amount > a.held then return corrupt('a hold does not decode') end
    a.balance, a.held = a.balance + amount, a.held - amount
    a.drop[#a.drop + 1] = hold
  end
  local score = tonumber(scores[3] or nil)
  if score and -score - IDS > now then
    a.record = read(id, score)
    if not a.record then return corrupt('a remembered request does not decode') end
  end
  return a
end

-- Writes what was changed. A script that runs out of memory is stopped at its
-- first write or not at all, and ZREM is never stopped: ZADD, which carries the
-- money, goes first.
local function save(a)
  redis.call('ZADD', key, digits(a.balance), 'balance', digits(a.held), 'held', unpack(a.add))
  for i = 1, #a.drop, 1000 do
    redis.call('ZREM', key, unpack(a.drop, i, math.min(i + 999, #a.drop)))
  end
  -- Each request adds two members at most, and takes up to 32 away.
  local due = redis.call('ZREVRANGEBYSCORE', key, '(' .. digits(-IDS), digits(-(IDS + now)), 'LIMIT', 0, 32)
  if #due > 0 then redis.call('ZREM', key, unpack(due)) end
  if a.balance + a.held > 0 then
    redis.call('PERSIST', key) -- money has no lifetime
    return
  end
  -- Nothing but remembered requests: the key goes with the last of them.
  local latest = -tonumber(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]) - IDS
  redis.call('PEXPIRE', key, digits(math.ceil((latest - now) / 1000) + 1))
end

-- How the hold of a record ended, '' if it is open.
local function ended(record)
  if record.endOp then return record.endOp == 'commit' and 'committed' or 'cancelled' end
  if record.op == 'reserve' and record.outcome == 'done' and record.expires <= now then return 'expired' end
  return ''
end

-- The answer to a request that was answered before: the same, if it is the same
-- request. It was the same call, too, if only the reply was lost on the way.
local function again(record, op, amount, call)
  if record.op ~= op or record.amount ~= amount then return { 'reused' } end
  return { record.outcome, record.balance, record.held, record.outcome == 'done' and amount or 0, record.at,
    record.expires, record.call == call and 0 or 1, ended(record) }
end

-- Whether as many requests are remembered as may be.
local function full(most)
  return redis.call('ZCOUNT', key, '-inf', '(' .. digits(-(IDS + now))) / 2 >= most
end

-- Decides a new request: saves the account, and what it is answered for as long
-- as lifetime. A refusal that need not be remembered changes nothing at all.
local function conclude(a, op, outcome, amount, call, lifetime, named, expires)
  expires = expires or 0
  if outcome == 'done' or named then
    local score = digits(-(IDS + math.max(now, expires) + lifetime))
    local data = table.concat({ 'd' .. a.id, call, op, outcome, digits(amount), digits(a.balance),
      digits(a.held), digits(now), digits(expires) }, ' ')
    for _, v in ipairs({ score, 'r' .. a.id, score, data }) do a.add[#a.add + 1] = v end
    save(a)
  end
  return { outcome, a.balance, a.held, outcome == 'done' and amount or 0, now, expires, 0, '' }
end

-- Closes the hold that a was opened with. amount is what op is about, nil for all
-- of the hold; charged is the part that does not return to the balance.
local function close(a, op, amount, charged, call)
  local r = a.record
  local function refuse(outcome) return { outcome, a.balance, a.held, 0, now, 0, 0, '' } end
  if not r or r.op ~= 'reserve' or r.outcome ~= 'done' then return refuse('unknown') end
  if r.endOp then
    if r.endOp ~= op or amount and r.endAmount ~= amount then return refuse(ended(r)) end
    return { 'done', r.endBalance, r.endHeld, r.endAmount, r.endAt, 0, r.endCall == call and 0 or 1, ended(r) }
  end
  if r.expires <= now then return refuse('expired') end
  amount = amount or r.amount
  if amount > r.amount then return refuse('exceeds') end
  local hold = 'h' .. a.id .. ' ' .. digits(r.amount)
  if not redis.call('ZSCORE', key, hold) or r.amount > a.held then
    return { 'corrupt', 'an open hold is missing' }
  end
  a.held, a.balance = a.held - r.amount, a.balance + r.amount - charged
  a.drop[#a.drop + 1], a.drop[#a.drop + 2] = hold, r.member
  a.add = { digits(r.score), table.concat({ r.member, op, call, digits(amount), digits(a.balance),
    digits(a.held), digits(now) }, ' ') }
  save(a)
  return { 'done', a.balance, a.held, amount, now, 0, 0, op == 'commit' and 'committed' or 'cancelled' }
end
