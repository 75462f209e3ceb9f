package cache

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/go-weir/weir/internal/rdb"
)

// shardNames are the hash tags of the shards: each lies in the middle of a sixteenth of
// a Cluster's slots. All instances must agree on them and on [shardOf]. They are of
// one length: see [Store.pattern].
var shardNames = [...]string{
	"04s", "15s", "26s", "37s", "40s", "51s", "62s", "73s",
	"83r", "92r", "aoo", "b1h", "c00", "d7h", "eko", "fy5",
}

const shards = len(shardNames)

const (
	maxKeyBytes  = 1024
	maxViewBytes = 64
)

// shard is a part of a Store's keys, whose scripts run in one slot.
type shard struct {
	index int
	base  string // of its keys
	meta  string // its hash
}

func newShards(prefix string) (all [shards]shard) {
	for i, name := range shardNames {
		base := rdb.Key(prefix, "data", name)
		all[i] = shard{index: i, base: base, meta: base + ":m"}
	}
	return all
}

// shardOf spreads names over the shards (FNV-1a).
func shardOf(name string) int {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return int((h ^ h>>16) % uint32(shards))
}

// place is where the entry of a view's key is.
type place struct {
	view, key string
	name      string // view:key
	shard     *shard
	resource  bool // it is a resource's: view is its key, key its variant
}

func (p *place) near() nearKey { return nearKey{p.view, p.key, p.resource} }

func (s *Store) place(view, key string) (place, error) {
	if err := checkKey(key); err != nil {
		return place{}, err
	}
	name := view + ":" + key
	return place{view: view, key: key, name: name, shard: &s.shards[shardOf(name)]}, nil
}

func (p *place) entry() string { return p.shard.base + ":e:" + p.name }
func (p *place) lease() string { return p.shard.base + ":l:" + p.name }

// leaseKeys are what scripts work on that are about a lease alone.
func (p *place) leaseKeys() []string { return []string{p.lease(), p.shard.meta} }

// keys are what most scripts work on.
func (p *place) keys() []string { return []string{p.entry(), p.lease(), p.shard.meta} }

// pattern matches the entries of a view, on whatever shard, whose key matches pattern.
func (s *Store) pattern(view, pattern string) string {
	// As the shard's name has a fixed length, no key can stand in for it.
	return s.root() + ":{" + strings.Repeat("?", len(shardNames[0])) + "}:e:" + view + ":" + pattern
}

// root is how the data's keys and channels begin.
func (s *Store) root() string {
	root, _, _ := strings.Cut(s.shards[0].base, ":{")
	return root
}

// news is the channel on which all instances hear of writes.
func (s *Store) news() string { return s.root() + ":news" }

// waking is the channel on which those who wait for name hear that its lease has ended.
func (s *Store) waking(name string) string { return s.root() + ":wake:" + name }

func checkKey(key string) error {
	if key == "" {
		return fmt.Errorf("%w: the key is empty: pass the text that tells this entry from others, such as an id", ErrConfig)
	}
	if len(key) > maxKeyBytes {
		return fmt.Errorf("%w: a key of %d bytes: at most %d; pass a digest of it", ErrConfig, len(key), maxKeyBytes)
	}
	return nil
}

func validView(name string) bool {
	return len(name) <= maxViewBytes && rdb.ValidPrefix(name) && !strings.Contains(name, ":")
}

// tagName is how a tag stands in keys, entries and messages.
func tagName(tag string) string { return url.QueryEscape(tag) }

func tagNames(tags []string) string {
	if len(tags) == 0 {
		return ""
	}
	var b strings.Builder
	for i, tag := range tags {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(tagName(tag))
	}
	return b.String()
}
