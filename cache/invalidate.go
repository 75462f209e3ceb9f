package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-weir/weir/internal/rdb"
)

const (
	// rememberTag is for how many ms the invalidation of a tag without entries is
	// remembered: longer than any load.
	rememberTag = (int64)(15 * 60 * 1000)

	// maxPrefixes is how many invalidations by prefix a shard remembers. The next one
	// invalidates all that is older than the oldest of them.
	maxPrefixes = 64

	// sweepBatch is how many keys are removed by one command.
	sweepBatch = 100
)

// DeleteTags removes all entries that have one of the tags, of all views. It takes as
// many commands as there are shards (16), in one round trip, however many entries there
// are; Redis frees these as their lifetimes end. Afterwards nobody reads what was there
// before, nor what was loaded before.
//
// The error is of kind ErrUnavailable when Redis did not confirm all of it: entries of
// some shards may be there still, and it may be called again. It is of kind ErrConfig
// for a tag that cannot be one.
func (s *Store) DeleteTags(ctx context.Context, tags ...string) error {
	return s.untag(ctx, "delete tags", hard, tags)
}

// ExpireTags makes stale what DeleteTags removes: it is loaded again when it is asked
// for, and may stand in meanwhile where [WithStale], or HTTP, allows. It costs as much,
// and has the same errors.
func (s *Store) ExpireTags(ctx context.Context, tags ...string) error {
	return s.untag(ctx, "expire tags", soft, tags)
}

// What an invalidation does: removes, or makes stale.
const (
	hard = 0
	soft = 1
)

func (s *Store) untag(ctx context.Context, what string, softly int, tags []string) error {
	if len(tags) == 0 {
		return nil
	}
	for _, tag := range tags {
		if err := checkTag(tag); err != nil {
			return fmt.Errorf("cache: %s: %w: %w", what, ErrConfig, err)
		}
	}
	args := []any{newToken(), rememberTag, softly}
	names := make([]string, len(tags))
	for i, tag := range tags {
		names[i] = tagName(tag)
		args = append(args, names[i])
	}
	return s.everywhere(ctx, what,
		func(sh *shard) *rdb.Cmd { return untagScript.On([]string{sh.meta}, args...) },
		func(sh *shard, o *outcome) { s.near.untagged(sh, names, o) })
}

// Clear removes all entries of all views, and all responses of middleware.Cache. It
// takes 16 commands in one round trip. The error is as that of DeleteTags.
func (s *Store) Clear(ctx context.Context) error { return s.clear(ctx, "clear", "all", hard, "") }

// Expire makes stale what Clear removes: see ExpireTags.
func (s *Store) Expire(ctx context.Context) error { return s.clear(ctx, "expire", "all", soft, "") }

// Clear removes all entries of the view, as DeletePrefix does.
func (c *Cache[V]) Clear(ctx context.Context) error {
	return c.store.clear(ctx, "clear", "prefix", hard, c.view+":")
}

// DeletePrefix removes all entries of the view whose key begins with prefix. It takes
// 16 commands in one round trip, however many entries there are; Redis frees these as
// their lifetimes end. A Store remembers the latest 64 prefixes: with the next one,
// entries of all views that are older than the oldest of them are removed as well.
//
// The error is as that of DeleteTags, or of kind ErrConfig for an empty prefix or one of
// more than 1024 bytes.
func (c *Cache[V]) DeletePrefix(ctx context.Context, prefix string) error {
	if prefix == "" {
		return fmt.Errorf("cache: delete prefix: %w: the prefix is empty: call Clear to remove all entries of the view", ErrConfig)
	}
	if len(prefix) > maxKeyBytes {
		return fmt.Errorf("cache: delete prefix: %w: a prefix of %d bytes: no key has more than %d", ErrConfig, len(prefix), maxKeyBytes)
	}
	return c.store.clear(ctx, "delete prefix", "prefix", hard, c.view+":"+prefix)
}

func (s *Store) clear(ctx context.Context, what, kind string, softly int, prefix string) error {
	return s.everywhere(ctx, what,
		func(sh *shard) *rdb.Cmd {
			return clearScript.On([]string{sh.meta}, newToken(), kind, softly, prefix, maxPrefixes)
		},
		func(sh *shard, o *outcome) { s.near.cleared(sh, o) })
}

// everywhere runs a plan on each shard, and tells done of each that it ran on. Of
// the others this process's near tier forgets what it has.
func (s *Store) everywhere(ctx context.Context, what string, plan func(*shard) *rdb.Cmd, done func(*shard, *outcome)) error {
	cmds := make([]*rdb.Cmd, shards)
	for i := range s.shards {
		cmds[i] = plan(&s.shards[i])
	}
	sent := monotonic()
	err := s.conn.Exec(ctx, cmds...)
	if slices.ContainsFunc(cmds, func(cmd *rdb.Cmd) bool { return cmd.Err() == nil }) {
		s.wrote(nil)
	}
	s.desert()
	for i, cmd := range cmds {
		sh := &s.shards[i]
		if cmd.Err() != nil {
			s.near.forget(sh)
			continue
		}
		o, bad := parseOutcome(cmd.Slice(), sent)
		if bad != nil {
			err = errors.Join(err, bad)
			s.near.forget(sh)
			continue
		}
		done(sh, &o)
	}
	if err != nil {
		return wrap(ctx, what, err)
	}
	return nil
}

// DeletePattern removes all entries of the view whose key matches pattern, with the
// wildcards of Redis: * any text, ? one character, [a-c] one of these, \ the next
// character as it is. It walks all keys of the server with SCAN, about 250 at a step,
// which takes some tenths of a millisecond; between the steps Redis serves others.
// Afterwards nobody reads what was there before, nor what was loaded before.
//
// Where a prefix says it, DeletePrefix is faster by far; where it is foreseen, tags.
//
// The error is of kind ErrUnavailable when Redis did not confirm all of it: some entries
// may be there still, and it may be called again. Each step has the budget to itself; ctx
// bounds the whole. It is of kind ErrConfig for an empty pattern. On a Cluster whose
// slots move between masters meanwhile, entries on the way may be missed.
func (c *Cache[V]) DeletePattern(ctx context.Context, pattern string) error {
	if pattern == "" {
		return fmt.Errorf("cache: delete pattern: %w: the pattern is empty: pass one, such as \"guest-*\"", ErrConfig)
	}
	s := c.store
	// What is being loaded is not stored, so that what SCAN has passed stays away.
	if err := s.clear(ctx, "delete pattern", "barrier", hard, ""); err != nil {
		return err
	}
	match := s.pattern(c.view, pattern)
	if err := s.conn.Scan(ctx, match, func(keys []string) error { return s.unlink(ctx, keys) }); err != nil {
		return wrap(ctx, "delete pattern", err)
	}
	// Near tiers may have read some of them meanwhile.
	return s.clear(ctx, "delete pattern", "barrier", hard, "")
}

// unlink removes entries. Those of one shard lie in one slot, so that one command may
// remove several.
func (s *Store) unlink(ctx context.Context, keys []string) error {
	byShard := make(map[string][]any)
	for _, key := range keys {
		_, rest, _ := strings.Cut(key, "{")
		tag, _, _ := strings.Cut(rest, "}")
		byShard[tag] = append(byShard[tag], key)
	}
	var cmds []*rdb.Cmd
	for _, all := range byShard {
		for len(all) > 0 {
			n := min(len(all), sweepBatch)
			cmds = append(cmds, rdb.NewCmd(all[0].(string), append([]any{"unlink"}, all[:n]...)...).Replayable())
			all = all[n:]
		}
	}
	return s.conn.Exec(ctx, cmds...)
}
