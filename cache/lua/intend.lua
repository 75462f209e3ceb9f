-- Says that a writer is about to change the source: removes the entry, and has nothing
-- stored that is loaded before it has finished.
--
-- KEYS[1]  entry, KEYS[2] lease, KEYS[3] the shard's hash
-- ARGV[1]  name, ARGV[2] token of the writer, ARGV[3] how long its lease lasts, in ms
--
-- Returns { 1, n, epoch }.
local name, token = ARGV[1], ARGV[2]
local s = open(token)
local l = leased(KEYS[2])
redis.call('UNLINK', KEYS[1])
write(s, 'k', name)
if l and l.writers then
  -- Nobody knows in which order the source will take them: none may be stored.
  if not writer(l, token) then
    l.writers[#l.writers + 1] = { token = token, ends = now() + ARGV[3] }
    l.contended = true
    hold(KEYS[2], l)
  end
else
  hold(KEYS[2], { born = s.n, epoch = s.e, writers = { { token = token, ends = now() + ARGV[3] } } })
  if l and l.waited then wake(name) end
end
return { 1, s.n, s.e }
