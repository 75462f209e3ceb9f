package session

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
)

// Index is an index for the external tests.
type Index struct{ x *index }

// IndexEntry is an entry with fields to look at.
type IndexEntry struct {
	ID                     string
	Created, Seen, Expires time.Time
	Blob                   string
}

var (
	ErrIndexBeaten = errBeaten
	ErrIndexFull   = errTooMany
)

const (
	MaxAge    = maxAge
	IndexPage = pageSize
)

// NewIndex returns an index with a budget that no busy machine exceeds.
func NewIndex(client redis.UniversalClient, prefix string, limit int, refuse bool) (Index, error) {
	conn, err := rdb.Open(client, 20*time.Second)
	return Index{&index{conn: conn, prefix: prefix, limit: limit, refuse: refuse}}, err
}

// NewestFirst is how list sorts entries; of these only what it sorts by counts.
func NewestFirst(in []IndexEntry) []IndexEntry {
	var entries []entry
	for _, e := range in {
		entries = append(entries, entry{id: e.ID, created: e.Created, expires: e.Expires})
	}
	return exported(newestFirst(entries))
}

func exported(entries []entry) []IndexEntry {
	var out []IndexEntry
	for _, e := range entries {
		out = append(out, IndexEntry{e.id, e.created, e.seen, e.expires, string(e.blob)})
	}
	return out
}

func (i Index) Tag(user string) string                 { return i.x.tag(user) }
func (i Index) Key(tag string, parts ...string) string { return i.x.key(tag, parts...) }

func (i Index) Alive(ctx context.Context, tag string, ids ...string) ([]bool, error) {
	var cmds []*rdb.Cmd
	for _, id := range ids {
		cmds = append(cmds, i.x.alive(tag, id))
	}
	if err := i.x.conn.Exec(ctx, cmds...); err != nil {
		return nil, err
	}
	var alive []bool
	for _, cmd := range cmds {
		alive = append(alive, i.x.present(cmd))
	}
	return alive, nil
}

func (i Index) Add(ctx context.Context, tag, id, blob string, life, age time.Duration) ([]IndexEntry, error) {
	evicted, _, err := i.x.add(ctx, tag, id, []byte(blob), life, age, "")
	return exported(evicted), err
}

func (i Index) Renew(ctx context.Context, tag, id, blob string, life time.Duration) (bool, error) {
	return i.x.renew(ctx, tag, id, []byte(blob), life)
}

// Touch sends the plan of a touch beside a PEXPIRE of the session's own key, which
// lies in another slot.
func (i Index) Touch(ctx context.Context, tag, id, blob string, life time.Duration, key string) (bool, error) {
	touch := i.x.touch(tag, id, []byte(blob), life)
	expire := rdb.NewCmd(key, "pexpire", key, life.Milliseconds()).Replayable()
	err := i.x.conn.Exec(ctx, touch, expire)
	return touch.Int() == 1, err
}

func (i Index) Remove(ctx context.Context, tag, id string) (IndexEntry, bool, error) {
	e, ok, err := i.x.remove(ctx, tag, id)
	return exported([]entry{e})[0], ok, err
}

// RemoveAll returns "" for a batch with nothing in it.
func (i Index) RemoveAll(ctx context.Context, tag, keep string) (string, error) {
	batch, some, err := i.x.removeAll(ctx, tag, keep)
	if !some {
		return "", err
	}
	return batch, err
}

func (i Index) Drain(ctx context.Context, tag, batch string, each func([]IndexEntry) error) error {
	if batch == "" {
		return nil
	}
	return i.x.drain(ctx, tag, batch, func(e []entry) error { return each(exported(e)) })
}

func (i Index) List(ctx context.Context, tag string) ([]IndexEntry, error) {
	entries, err := i.x.list(ctx, tag)
	return exported(entries), err
}
