package cache

import (
	"context"
	_ "embed"
	"fmt"
	"sync"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

//go:embed lua/find.lua
var findLua string

//go:embed lua/keep.lua
var keepLua string

// Both may run twice: find reads, keep writes the same again.
var (
	findScript = rdb.NewReplayableScript(findLua)
	keepScript = rdb.NewReplayableScript(keepLua)
)

// maxVariants bounds how many variants one entry has: the next begins it anew, so
// that a client who sends ever other header values cannot fill Redis.
const maxVariants = 64

// Entry is what FindVariant found.
type Entry struct {
	// Data is what was kept.
	Data string
	// StoredAt and Now are the instants of KeepVariant and of FindVariant by Redis's clock;
	// their difference is the entry's age in the store, whoever stored it.
	// When the variant is not there, Now is set if others are.
	StoredAt, Now time.Time
}

// FindVariant returns the variant of key's entry that is meant by a caller for whom
// variant gives the variant's name; ok is false if it is not there, or past the
// lifetime it was kept for.
//
// variant is called with the names by which the entry's variants are told apart
// ("" when they are not), which the Store learns from KeepVariant. It costs one round
// trip, and a second when other names are met than this process last saw.
//
// The error is of kind ErrUnavailable when Redis is silent, within the budget.
// What somebody else put under the key is not found; ErrCorrupt is for replies
// that no Redis gives to a Store.
func (s *Store) FindVariant(ctx context.Context, key string, variant func(names string) string) (entry Entry, ok bool, err error) {
	redisKey := s.redisKey(key)
	names := s.names.get(redisKey)
	for range 2 {
		field := variant(names)
		cmd := findScript.Cmd(redisKey, field)
		if err := s.conn.Exec(ctx, cmd); err != nil {
			return Entry{}, false, wrap(ctx, "find", err)
		}
		reply := cmd.Slice()
		if reply == nil {
			return Entry{}, false, nil
		}
		by, now, storedAt, data, err := parseFind(reply)
		if err != nil {
			return Entry{}, false, wrap(ctx, "find", err)
		}
		if by != names {
			s.names.put(redisKey, by)
			names = by
			if variant(by) != field {
				continue
			}
		}
		return Entry{Data: data, StoredAt: storedAt, Now: now}, !storedAt.IsZero(), nil
	}
	// The names changed between the two reads: somebody is storing right now.
	return Entry{}, false, nil
}

func parseFind(reply []any) (names string, now, storedAt time.Time, data string, err error) {
	if len(reply) == 4 {
		by, ok1 := reply[0].(string)
		at, ok2 := reply[1].(int64)
		if ok1 && ok2 {
			stored, ok3 := reply[2].(int64)
			data, ok4 := reply[3].(string)
			if ok3 && ok4 {
				return by, time.UnixMilli(at), time.UnixMilli(stored), data, nil
			}
			return by, time.UnixMilli(at), time.Time{}, "", nil
		}
	}
	return "", now, storedAt, "", fmt.Errorf("%w: an entry's fields are not those of this version", ErrCorrupt)
}

// Variant is one variant of an entry, to be kept.
type Variant struct {
	// By says by what the entry's variants are told apart, such as the names of
	// header fields; empty if there is only one.
	By string
	// Name is the variant's own among those.
	Name string
	// Data must not be changed afterwards: a write that took longer than the
	// budget may still be reading it. At most MaxBytes.
	Data []byte
	// TTL is how long to keep it: from 1 ms; of more than 366 days those count.
	TTL time.Duration
}

// KeepVariant stores v in key's entry. When v.By differs from what is stored, all
// older variants go. So they do when this is one more than the 64 that an entry
// may have.
//
// It is one round trip. The error is of kind ErrUnavailable when Redis did not
// confirm the write within the budget, or of kind ErrConfig when v.TTL is under
// 1 ms or v.Data is longer than MaxBytes.
func (s *Store) KeepVariant(ctx context.Context, key string, v Variant) error {
	if v.TTL < minTTL {
		return fmt.Errorf("cache: keep: %w: TTL %v: must be at least %v", ErrConfig, v.TTL, minTTL)
	}
	if len(v.Data) > s.MaxBytes() {
		return fmt.Errorf("cache: keep: %w: %d bytes: must be at most %d, see WithMaxBytes", ErrConfig, len(v.Data), s.MaxBytes())
	}
	redisKey := s.redisKey(key)
	cmd := keepScript.Cmd(redisKey, v.By, v.Name, v.Data, min(v.TTL, maxTTL).Milliseconds(), maxVariants)
	if err := s.conn.Exec(ctx, cmd); err != nil {
		return wrap(ctx, "keep", err)
	}
	s.names.put(redisKey, v.By)
	return nil
}

// DropVariants removes key's entry with all its variants. The error is of kind
// ErrUnavailable when Redis did not confirm it within the budget.
func (s *Store) DropVariants(ctx context.Context, key string) error {
	redisKey := s.redisKey(key)
	if err := s.conn.Exec(ctx, rdb.NewCmd(redisKey, "unlink", redisKey).Replayable()); err != nil {
		return wrap(ctx, "drop", err)
	}
	return nil
}

// redisKey names the hash of key's entry. Keys are often URLs, which may hold
// personal data: only their digest reaches Redis.
func (s *Store) redisKey(key string) string { return rdb.Key(s.prefix, "variants", rdb.Digest(key)) }

// These bound a nameMemory to a few MiB. Longer names cost their entry a second
// round trip.
const (
	maxRemembered = 1 << 14
	maxNames      = 256 // bytes
)

// nameMemory remembers by which names the variants of entries are told apart,
// for those that have variants. It is only a guess that saves a round trip: what
// Redis says counts.
type nameMemory struct {
	mu sync.RWMutex
	m  map[string]string
}

func (n *nameMemory) get(key string) string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.m[key]
}

func (n *nameMemory) put(key, names string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if names == "" || len(names) > maxNames {
		delete(n.m, key)
		return
	}
	if n.m == nil {
		n.m = make(map[string]string)
	}
	if _, known := n.m[key]; !known && len(n.m) >= maxRemembered {
		for other := range n.m { // an arbitrary one
			delete(n.m, other)
			break
		}
	}
	n.m[key] = names
}
