package cache

const (
	MaxVariants   = maxVariants
	MaxRemembered = maxRemembered
	MaxNames      = maxNames
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
