package cache

import (
	"context"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/maypok86/otter/v2"

	"github.com/go-weir/weir/internal/rdb"
)

// nearBound is how old a read of the near tier may be at the most, measured from the
// acknowledgement of the write that it does not know of.
const nearBound = time.Second

// nearOverhead is what an item takes besides its bytes in Redis.
const nearOverhead = 200

// near is the in-process tier of a Store. A nil one keeps nothing.
//
// What it holds is good as long as nothing has been written since that concerns it. A
// shard's writes are numbered; every item knows the number as of which it is good
// (asOf), and each write is told to all instances with its number. What is told may be
// late or lost: an item is therefore served only until the shard's proven, which is
// nearBound from when Redis was last asked for its number and all writes up to that
// turned out to have been heard of.
type near struct {
	store  *Store
	items  *otter.Cache[nearKey, *item]
	shards [shards]nearShard
	pulse  pulse

	clearings atomic.Int64 // that the observer is still to be told of
}

// nearKey names an item: by view and key, or by resource and variant.
type nearKey struct {
	view, key string
	resource  bool
}

// item is one value. It is never changed.
type item struct {
	value any // a *V; nil if the source has no such thing
	shard *nearShard
	gen   uint64
	asOf  uint64
	until int64 // its lifetime's end, on the clock of monotonic
	alone bool  // it was loaded without Redis, and is good until then in any case
	tags  []*nearTag
	size  uint32
}

// nearShard is what the tier knows of a shard.
type nearShard struct {
	gen    atomic.Uint64 // items of an older one are gone
	solo   atomic.Uint64 // so are those that were loaded without Redis
	proven atomic.Int64  // on the clock of monotonic

	mu    sync.Mutex
	epoch string
	heard uint64 // all writes up to this one were heard of, or all items are younger
	own   state  // this process's own last write
	asked int64  // when Redis was last asked for its number, and told it
	owed  owed
	tags  map[string]weak.Pointer[nearTag]
}

// nearTag is a tag of items: those as of an earlier number than last are gone.
type nearTag struct{ last atomic.Uint64 }

func newNear(s *Store, bytes int64) *near {
	n := &near{store: s}
	n.items = otter.Must(&otter.Options[nearKey, *item]{
		MaximumWeight: uint64(bytes),
		Weigher:       func(_ nearKey, it *item) uint32 { return it.size },
	})
	for i := range n.shards {
		n.shards[i].tags = make(map[string]weak.Pointer[nearTag])
	}
	return n
}

// get returns what the tier has; nil if it has that there is nothing.
func (n *near) get(at nearKey) (value any, ok bool) {
	now := monotonic()
	n.pulse.beat(n, now)
	it, ok := n.items.GetIfPresent(at)
	if !ok || now >= it.until {
		return nil, false
	}
	if it.alone {
		return it.value, it.gen == it.shard.generation()
	}
	if now >= it.shard.proven.Load() || it.gen != it.shard.gen.Load() {
		return nil, false
	}
	for _, t := range it.tags {
		if t.last.Load() > it.asOf {
			return nil, false
		}
	}
	return it.value, true
}

// keepRead holds what was read from Redis.
func (n *near) keepRead(p *place, value any, a *answer, set *settings) {
	if n == nil {
		return
	}
	left := (a.entry.fresh-a.now)*int64(time.Millisecond) - int64(drawn(set.early, a.entry.cost))
	n.put(p, &item{value: value, until: a.sent + left, size: weight(p, a.size)}, a.state, a.entry.tags)
}

// keepStored holds what this process has just stored.
func (n *near) keepStored(p *place, value any, o *outcome, k *keeping) {
	if n == nil {
		return
	}
	tags := make([]string, len(k.tags))
	for i, t := range k.tags {
		tags[i] = tagName(t)
	}
	n.knows(n.shard(p.shard), o.state)
	n.put(p, &item{value: value, until: o.sent + int64(k.ttl-k.early), size: weight(p, len(k.data))}, o.state, tags)
}

// keepAlone holds what was loaded while Redis was silent, for as long as the bound
// allows.
func (n *near) keepAlone(p *place, value any, begun int64) {
	if n == nil {
		return
	}
	sh := n.shard(p.shard)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	n.items.Set(p.near(), &item{
		value: value, shard: sh, gen: sh.generation(), alone: true,
		until: begun + int64(nearBound), size: weight(p, 0),
	})
}

// generation is that of items that were loaded without Redis, whose tags nobody knows.
func (sh *nearShard) generation() uint64 { return sh.gen.Load() + sh.solo.Load() }

func weight(p *place, bytes int) uint32 {
	return uint32(nearOverhead + 2*len(p.name) + bytes)
}

func (n *near) shard(s *shard) *nearShard { return &n.shards[s.index] }

// put holds an item that is good as of a state, unless more has been heard already:
// then some write of the meantime may concern it.
func (n *near) put(p *place, it *item, as state, tags []string) {
	sh := n.shard(p.shard)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if as.epoch != sh.epoch || as.n < sh.heard || as.epoch == sh.own.epoch && as.n < sh.own.n {
		if old, ok := n.items.GetEntryQuietly(p.near()); ok && (old.Value.alone || as.epoch != sh.epoch || old.Value.asOf < as.n) {
			n.items.Invalidate(p.near())
		}
		return
	}
	it.shard, it.gen, it.asOf = sh, sh.gen.Load(), as.n
	for _, name := range tags {
		it.tags = append(it.tags, sh.tag(name))
	}
	n.items.Set(p.near(), it)
}

// tag returns the shard's record of a tag, which lives as long as items with it do.
func (sh *nearShard) tag(name string) *nearTag {
	if t := sh.tags[name].Value(); t != nil {
		return t
	}
	t := new(nearTag)
	t.last.Store(0)
	w := weak.Make(t)
	sh.tags[name] = w
	runtime.AddCleanup(t, func(name string) {
		sh.mu.Lock()
		defer sh.mu.Unlock()
		if sh.tags[name] == w {
			delete(sh.tags, name)
		}
	}, name)
	return t
}

// knows takes note of a write of this process's own, which it sees at once, however
// late it hears of it. Until then no older read gets in; nor any at all, until the next
// comparison, if Redis has forgotten what the shard's items are good as of.
func (n *near) knows(sh *nearShard, as state) {
	defer n.announce()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if as.epoch == sh.own.epoch {
		sh.own.n = max(sh.own.n, as.n)
		return
	}
	sh.own = as
	if sh.epoch != "" && sh.epoch != as.epoch {
		sh.begin("", 0)
		n.tellCleared()
	}
}

// drop forgets what is held of p, as a write of its own may have happened.
func (n *near) drop(p *place) {
	if n == nil {
		return
	}
	sh := n.shard(p.shard)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	n.items.Invalidate(p.near())
}

// dropped forgets p, which this process has removed.
func (n *near) dropped(p *place, o *outcome) {
	if n == nil {
		return
	}
	n.knows(n.shard(p.shard), o.state)
	n.drop(p)
}

// untagged forgets what has a tag that this process has removed.
func (n *near) untagged(s *shard, tags []string, o *outcome) {
	if n == nil {
		return
	}
	sh := n.shard(s)
	n.knows(sh, o.state)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.solo.Add(1)
	for _, name := range tags {
		sh.untag(name, o.state.n)
	}
}

func (sh *nearShard) untag(name string, number uint64) {
	if t := sh.tags[name].Value(); t != nil && t.last.Load() < number {
		t.last.Store(number)
	}
}

// cleared forgets all of a shard, which this process has cleared.
func (n *near) cleared(s *shard, o *outcome) {
	if n == nil {
		return
	}
	n.knows(n.shard(s), o.state)
	n.forget(s)
}

// forget drops all that is held of a shard.
func (n *near) forget(s *shard) {
	if n != nil {
		n.shard(s).gen.Add(1)
	}
}

// hear takes in a message: "shard epoch number what name".
func (n *near) hear(message string) {
	fields := strings.SplitN(message, " ", 5)
	if len(fields) != 5 {
		return // nobody of this version says so
	}
	number, err := strconv.ParseUint(fields[2], 10, 64)
	index := -1
	for i, name := range shardNames {
		if name == fields[0] {
			index = i
		}
	}
	if err != nil || index < 0 {
		return
	}
	sh := &n.shards[index]
	defer n.announce()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.epoch == "" {
		return // nothing is held yet
	}
	switch epoch := fields[1]; {
	case epoch != sh.epoch:
		sh.begin(epoch, number)
		n.tellCleared()
	case number == sh.heard+1:
		sh.heard = number
	case number > sh.heard:
		sh.begin(epoch, number)
		n.tellCleared()
	}
	switch what, name := fields[3], fields[4]; what {
	case "r":
		sh.untag(resourceTag(name), number)
	case "k":
		view, key, _ := strings.Cut(name, ":")
		at := nearKey{view: view, key: key}
		if it, ok := n.items.GetEntryQuietly(at); ok && (it.Value.alone || it.Value.asOf < number) {
			n.items.Invalidate(at)
		}
	case "t":
		sh.solo.Add(1)
		sh.untag(name, number)
	default:
		sh.gen.Add(1)
	}
	sh.settle()
}

// begin starts from nothing, as of a number. It is called with the lock held.
func (sh *nearShard) begin(epoch string, number uint64) {
	sh.gen.Add(1)
	if epoch != sh.epoch {
		sh.epoch, sh.owed = epoch, owed{}
	}
	if epoch != "" && epoch != sh.own.epoch {
		sh.own = state{}
	}
	sh.heard = number
}

func (n *near) tellCleared() { n.clearings.Add(1) }

// announce tells the observer of what was dropped. It is called without a lock, as an
// observer may call the Store.
func (n *near) announce() {
	observe := n.store.observe
	if observe == nil {
		return
	}
	for range n.clearings.Swap(0) {
		observe(context.Background(), Event{Kind: NearCleared})
	}
}

// listener hears of all writes.
func (n *near) listener() rdb.Listener {
	return rdb.Listener{
		Message: func(_, payload string) { n.hear(payload) },
		Lost:    n.distrust,
		Gap: func() {
			n.clear()
			n.pulse.now()
		},
	}
}

// distrust has nothing served until it is proven anew.
func (n *near) distrust() {
	for i := range n.shards {
		n.shards[i].proven.Store(0)
	}
}

// clear drops all, as nobody knows what was missed.
func (n *near) clear() {
	for i := range n.shards {
		sh := &n.shards[i]
		sh.mu.Lock()
		sh.proven.Store(0)
		sh.gen.Add(1)
		sh.epoch, sh.owed = "", owed{}
		sh.mu.Unlock()
	}
	n.tellCleared()
	n.announce()
}
