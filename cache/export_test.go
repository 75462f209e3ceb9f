package cache

import "time"

const (
	MaxVariants   = maxVariants
	MaxRemembered = maxRemembered
	MaxNames      = maxNames
	MaxPrefixes   = maxPrefixes
	NearBound     = nearBound
)

// RedisKey is where key's entry is.
func (s *Store) RedisKey(key string) string {
	p := s.resource(key)
	return p.hash()
}

// Remembered is how many entries' names s remembers.
func (s *Store) Remembered() int {
	s.names.mu.RLock()
	defer s.names.mu.RUnlock()
	return len(s.names.m)
}

// Remember puts names into s's memory.
func (s *Store) Remember(key, names string) { s.names.put(key, names) }

// ParseFound reads a reply of find.lua.
func ParseFound(reply []any) error {
	_, _, err := parseFound(reply, 0)
	return err
}

func (s *Store) at(view, key string) *place {
	p, err := s.place(view, key)
	if err != nil {
		panic(err)
	}
	return &p
}

// EntryKey, LeaseKey, MetaKey and TagKey are where Redis has what belongs to key.
func (s *Store) EntryKey(view, key string) string { return s.at(view, key).entry() }
func (s *Store) LeaseKey(view, key string) string { return s.at(view, key).lease() }
func (s *Store) MetaKey(view, key string) string  { return s.at(view, key).shard.meta }
func (s *Store) TagKey(view, key, tag string) string {
	return s.at(view, key).shard.base + ":t:" + tagName(tag)
}

// Waiters is how many callers wait for the flight of key, -1 if there is none.
func (s *Store) Waiters(view, key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.flights[s.at(view, key).name]; f != nil {
		return f.waiters
	}
	return -1
}

// Proven is for how long key's shard is proven yet.
func (s *Store) Proven(view, key string) time.Duration {
	return time.Duration(s.near.shards[s.at(view, key).shard.index].proven.Load() - monotonic())
}

// NearBytes is what the near tier holds.
func (s *Store) NearBytes() uint64 { return s.near.items.WeightedSize() }

// Comparing reports whether the near tier's pulse runs, or is about to end.
func (s *Store) Comparing() bool {
	s.near.pulse.mu.Lock()
	defer s.near.pulse.mu.Unlock()
	return s.near.pulse.stop != nil && !s.near.pulse.closed
}

// Unused has the near tier look as if nobody had read it for long.
func (s *Store) Unused() { s.near.pulse.used.Store(monotonic() - int64(2*pulseIdle)) }

// DataLua is what the scripts on data share.
var DataLua = dataLua

// ParseEntry is the data of an entry.
func ParseEntry(text string) (data string, err error) {
	e, err := parseEntry(text)
	return e.data, err
}

// ParseAnswer reads a reply of ask.lua.
func ParseAnswer(reply []any) error {
	_, err := parseAnswer(reply, 0)
	return err
}

// Hear has the near tier hear a message.
func (s *Store) Hear(message string) { s.near.hear(message) }

const (
	ChunkBytes = chunkBytes
	ChunkGrace = chunkGrace
	MaxBody    = maxMaxBody
)

// ChunkKey is where a chunk of the body is.
func (b *Body) ChunkKey(i int) string { return b.key(i) }

// ParseBody reads what an entry says of its body.
func ParseBody(text, first string, along bool) (*Body, error) {
	return parseBody(nil, &shard{base: "b"}, text, first, along)
}

// Form is what ParseBody reads.
func (b *Body) Form() string { return b.form() }
