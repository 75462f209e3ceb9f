package cache

import (
	"context"
	"fmt"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// maxVariants bounds how many variants one resource has: the next begins it anew, so
// that a client who sends ever other header values cannot fill Redis.
const maxVariants = 64

// resourceMark begins the names of resources, and no view's.
const resourceMark = "~"

// passFor is for how long nobody waits for what could not be kept.
const passFor = 10 * time.Second

// Resource is what [Store.Find] is asked about: what one key means, which may be
// different bytes to different callers, as a URL is under the Vary field. It is for
// middleware.Cache, and for caches like it.
type Resource struct {
	// Key names it: only its digest reaches Redis.
	Key string
	// Name gives the text by which [Store.DeleteResources] finds it, such as its URL; nil
	// if it has none. It is not stored, and must be the same at each Find. It is called
	// when Redis is asked.
	Name func() string
	// Variant gives the caller's variant, where variants are told apart by names: ""
	// when they are not. Only its digest reaches Redis.
	Variant func(names string) string
	// Decode makes of what was kept what Found holds, for the near tier to keep it as
	// well; nil leaves the bytes as they are. It gets what [Variant] had as Data, and the
	// length of its Body.
	Decode func(data string, body int64) (any, error)
	// Body has the first 256 KiB of a longer body come along, if all of it is there; else the
	// variant is not found. A body of up to 256 KiB always does.
	Body bool
	// Afresh has Redis asked, whatever is near.
	Afresh bool
	// Claim has Find take the right to make what is missing or stale, unless somebody
	// else has it.
	Claim bool
	// Early has Find take that right for what is fresh as well, at random, the likelier
	// the nearer the end of its lifetime and the more it cost: see [WithEarlyRefresh],
	// whose beta it is. 0 never does.
	Early float64
}

// Variant is one variant of a resource, to be kept.
type Variant struct {
	// By says by what the resource's variants are told apart, such as the names of
	// header fields; empty if there is only one.
	By string
	// Name is the variant's own among those.
	Name string
	// Data must not be changed afterwards: a write that took longer than the
	// budget may still be reading it. At most MaxBytes.
	Data []byte
	// Body is what it has besides, of the same Store and key; nil if there is none. Keep ends
	// it, whatever becomes of it.
	Body *BodyWriter
	// SameBody keeps the body that was found, in the place of Body, and does not send it
	// again. Then it is not kept if what is stored has another body by now.
	SameBody bool
	// Fresh is how long it is fresh, Keep how long it is kept: from 1 ms; of more than
	// 366 days those count. What is not fresh at all, 0, may be kept as well, for the
	// sake of its validator; then nobody waits for who makes it anew: see Yield.
	Fresh, Keep time.Duration
	// Cost is how long it took to make, for Resource.Early: in whole milliseconds.
	Cost time.Duration
	// Tags are what [Store.DeleteTags] finds it by.
	Tags []string
}

// Found is what [Store.Find] found.
type Found struct {
	// Value is what Decode made of what was kept, or that, a string; nil if the
	// variant is not there.
	Value any
	// Body is what it has besides; nil if there is none.
	Body *Body
	// StoredAt and Now are the instants of Keep and of Find by Redis's clock; their
	// difference is the entry's age in the store, whoever stored it.
	StoredAt, Now time.Time
	// Stale says that it is past Fresh, or was made stale.
	Stale bool
	// Expired says that it was made stale, by [Store.ExpireTags] or its kin.
	Expired bool
	// Others says that the resource has other variants.
	Others bool
	// Claimed says that the caller is to make it, and to end with Keep or Yield; Early that
	// this is so though it is fresh.
	Claimed, Early bool
	// Busy says that somebody else is making it: see Wait.
	Busy bool
	// Near says that the near tier had it, and Redis was not asked.
	Near bool
	// Silent says that Redis is: Claimed and Busy are then about this process alone.
	Silent bool

	store    *Store
	asked    Resource
	resource place // once Redis was asked
	variant  string
	state    state
	sent     int64 // when Redis was asked, on the clock of monotonic
	token    string
	factor   float64 // the earliness drawn
	stop     func()  // ends the renewal of the claim
	solo     *solo   // what is made while Redis is silent
}

// Find returns the variant of a resource that is meant for the caller. It costs one
// round trip, and a second when other names are met than this process last saw; none
// when the near tier has a fresh one.
//
// The error is of kind ErrUnavailable when Redis is silent, within the budget. With Claim,
// one caller of this process is told to make it then, and the others to wait: Keep gives
// it to them, and stores nothing. What somebody else put under the key is not found;
// ErrCorrupt is for what does not decode: Found may have the claim then.
func (s *Store) Find(ctx context.Context, r Resource) (Found, error) {
	names := s.names.get(r.Key)
	variant := r.Variant(names)
	if f, ok := s.findNear(&r, variant); ok && !r.Afresh {
		return f, nil
	}
	f := Found{store: s, asked: r, variant: variant, factor: earliness(r.Early)}
	f.locate()
	if a, ok := f.recall(ctx, names); ok && !r.Afresh {
		return f, f.take(ctx, &a)
	}
	if r.Claim || r.Early > 0 {
		f.token = newToken()
	}
	for range 2 {
		f.sent = monotonic()
		cmd := f.plan(names)
		if err := s.conn.Exec(ctx, cmd); err != nil {
			return s.findSolo(ctx, f, wrap(ctx, "find", err))
		}
		a, by, err := parseFound(cmd.Slice(), f.sent)
		if err != nil {
			return Found{}, wrap(ctx, "find", err)
		}
		f.state, f.Now, f.Others = a.state, time.UnixMilli(a.now), by != ""
		if a.verdict == renamed {
			s.names.put(r.Key, by)
			names, f.variant = by, r.Variant(by)
			continue
		}
		err = f.take(ctx, &a)
		return f, err
	}
	// The names changed between the two reads: somebody is storing right now.
	f.token = ""
	return f, nil
}

// plan is the command that reads the variant, and claims it if f has a token.
func (f *Found) plan(names string) *rdb.Cmd {
	claim, factor, first := 0, 0.0, 0
	if f.token != "" {
		factor = f.factor
		if f.asked.Claim {
			claim = 1
		}
	}
	if f.asked.Body {
		first = 1
	}
	return findScript.On(f.keys(), variantName(f.variant), names, f.resource.name, f.token, f.store.set.lease.Milliseconds(), claim, decimal(factor), first)
}

// Foresee has the next call to Redis under ctx look for the resource along the way,
// where middleware.OneTrip is outside, so that its Find finds what is fresh without a
// round trip; else it does nothing, as when it is in the near tier. What was read counts
// for 50 ms, and not after another call of the Store under ctx; a Find that comes later, or
// meets what is not fresh, asks itself. It does no I/O.
func (s *Store) Foresee(ctx context.Context, r Resource) {
	if !rdb.Foresees(ctx) {
		return
	}
	names := s.names.get(r.Key)
	variant := r.Variant(names)
	if _, near := s.findNear(&r, variant); near {
		return
	}
	f := Found{store: s, asked: r, variant: variant}
	f.locate()
	s.conn.Foresee(ctx, f.plan(names))
}

// recall is a find that was foreseen, if it found what is fresh and not due early: all else
// is asked about anew, with a claim.
func (f *Found) recall(ctx context.Context, names string) (a answer, ok bool) {
	if !rdb.Foresees(ctx) {
		return answer{}, false
	}
	cmd := f.plan(names)
	if !f.store.conn.Recall(ctx, cmd) {
		return answer{}, false
	}
	sent := monotonic()
	ago := cmd.Ago() // after, so that sent is not too late
	a, by, err := parseFound(cmd.Slice(), sent-int64(ago))
	if err != nil || a.verdict != fresh || a.now+(ago+time.Duration(f.factor*float64(a.entry.cost))).Milliseconds() >= a.entry.fresh {
		return answer{}, false
	}
	f.sent, f.state, f.Others = a.sent+int64(ago), a.state, by != ""
	f.Now = time.UnixMilli(a.now).Add(ago)
	return a, true
}

// locate finds out where the resource is.
func (f *Found) locate() {
	if f.resource.shard != nil {
		return
	}
	digest := rdb.Digest(f.asked.Key)
	f.resource = place{key: digest, name: resourceMark, shard: &f.store.shards[shardOf(digest)]}
	if f.asked.Name != nil {
		f.resource.name += f.asked.Name()
	}
}

// variantName is how a variant stands in Redis.
func variantName(variant string) string {
	if variant == "" {
		return ""
	}
	return rdb.Digest(variant)
}

// take takes in what find.lua says of the variant.
func (f *Found) take(ctx context.Context, a *answer) error {
	f.Early = a.verdict == refresh
	f.Claimed, f.Busy = a.verdict == yours || f.Early, a.verdict == theirs
	if f.Claimed {
		f.stop = f.store.keepLease(ctx, &f.store.set, f.token, f.leaseKeys())
	} else {
		f.token = ""
	}
	if !a.found {
		return nil
	}
	body, err := parseBody(f.store, f.resource.shard, a.entry.flags, a.first, a.along)
	var value any
	if err == nil {
		value, err = f.unsealed(a.entry.data, body)
	}
	if err != nil {
		return fmt.Errorf("cache: find: %w: %w", ErrCorrupt, err)
	}
	f.Value, f.Body, f.StoredAt = value, body, time.UnixMilli(a.entry.stored)
	f.Expired = a.expired
	f.Stale = a.expired || a.entry.fresh <= a.now
	if !f.Stale {
		f.store.near.keepFound(f, a)
	}
	return nil
}

// unsealed is the value of what Redis holds.
func (f *Found) unsealed(stored string, body *Body) (any, error) {
	data, err := unseal(stored)
	if err != nil {
		return nil, err
	}
	return f.value(data, body)
}

// value is what Decode makes of data.
func (f *Found) value(data string, body *Body) (any, error) {
	if f.asked.Decode == nil {
		return data, nil
	}
	return f.asked.Decode(data, body.Len())
}

// keys are those of find.lua and keep.lua.
func (f *Found) keys() []string {
	return []string{f.resource.hash(), f.leaseKey(), f.resource.shard.meta}
}

// hash is the key of a resource.
func (p *place) hash() string { return p.shard.base + ":r:" + p.key }

// wakeName is what those wait for who wait for the variant.
func (f *Found) wakeName() string {
	return resourceMark + f.resource.key + ":" + variantName(f.variant)
}

func (f *Found) leaseKey() string { return f.resource.shard.base + ":l:" + f.wakeName() }

// leaseKeys are those of pass.lua and renew.lua.
func (f *Found) leaseKeys() []string { return []string{f.leaseKey(), f.resource.shard.meta} }

// Keep stores what the caller has made, unless an invalidation has come since Find, and
// ends its claim. When v.By differs from what is stored, all older variants go. So they
// do when this is one more than the 64 that a resource may have. kept is false if it was
// not stored for that reason.
//
// It is one round trip. The error is of kind ErrUnavailable when Redis did not
// confirm the write within the budget, or of kind ErrConfig when a lifetime is under 1 ms,
// v.Data is longer than MaxBytes, a tag cannot be one, or the body is of another key; or
// it says why the body takes no more. The claim is then given up.
func (f *Found) Keep(ctx context.Context, v Variant) (kept bool, err error) {
	if v.Body != nil {
		defer v.Body.Discard()
	}
	if f.store == nil {
		return false, fmt.Errorf("cache: keep: %w: nothing was found", ErrUnavailable)
	}
	s := f.store
	f.locate()
	k, err := s.variant(&v)
	var body *Body
	var beside []byte
	if err == nil {
		body, beside, err = f.bodyOf(&v)
	}
	if err != nil {
		f.Yield(ctx, f.solo != nil) // who waits would wait for the next one's failure, too
		return false, err
	}
	if f.solo != nil {
		s.names.put(f.asked.Key, v.By)
		s.endSolo(f, &v, body, v.Fresh == 0)
		return false, nil
	}
	f.end()
	k.flags = body.form()
	args := append(k.args(f.resource.name, f.token), variantName(v.Name), v.By, f.state.n, f.state.epoch, maxVariants, f.wakeName(), newToken(), passFor.Milliseconds(),
		beside, v.SameBody, variantName(f.variant), chunkGrace.Milliseconds())
	o, err := s.write(ctx, keepScript.On(f.keys(), args...))
	f.token = "" // the claim has ended, or ends by itself
	if v.Body != nil {
		v.Body.forget() // the script has dealt with it, or it ends by itself
	}
	if err != nil {
		return false, wrap(ctx, "keep", err)
	}
	if !o.done {
		return false, nil
	}
	s.names.put(f.asked.Key, v.By)
	s.near.keepVariant(f, &v, &o, k, body)
	return true, nil
}

// bodyOf is the body of a variant that is to be kept, and what of it is sent along.
func (f *Found) bodyOf(v *Variant) (body *Body, beside []byte, err error) {
	switch {
	case v.SameBody:
		return f.Body, nil, nil
	case v.Body == nil:
		return nil, nil, nil
	case v.Body.store != f.store || v.Body.key != f.resource.key:
		return nil, nil, fmt.Errorf("cache: keep: %w: the body is of another key", ErrConfig)
	}
	if err := v.Body.finish(); err != nil {
		return nil, nil, fmt.Errorf("cache: keep: a body: %w", err)
	}
	b := v.Body.body
	if b.chunk == 0 && b.size > 0 {
		beside = v.Body.chunk
		b.held = string(beside[sumBytes:])
	}
	return &b, beside, nil
}

func (s *Store) variant(v *Variant) (*keeping, error) {
	switch {
	case v.Fresh < minTTL && v.Fresh != 0 || v.Keep < minTTL:
		return nil, fmt.Errorf("cache: keep: %w: fresh for %v, kept for %v: must be at least %v", ErrConfig, v.Fresh, v.Keep, minTTL)
	case len(v.Data) > s.set.maxBytes:
		return nil, fmt.Errorf("cache: keep: %w: %d bytes: must be at most %d, see WithMaxBytes", ErrConfig, len(v.Data), s.set.maxBytes)
	}
	if err := checkTags(v.Tags); err != nil {
		return nil, fmt.Errorf("cache: keep: %w: %w", ErrConfig, err)
	}
	return &keeping{ttl: min(v.Fresh, maxTTL), keep: min(v.Keep, maxTTL), flags: flagNone, tags: v.Tags, data: seal(v.Data), cost: v.Cost}, nil
}

// Yield gives a claim up, so that somebody else makes it. With pass, which says that it
// may not be kept, nobody waits for it or claims it for 10 s. It does nothing without a
// claim, or after Keep.
func (f *Found) Yield(ctx context.Context, pass bool) {
	if f.solo != nil {
		f.store.endSolo(f, nil, nil, pass)
		return
	}
	if f.token == "" {
		return
	}
	f.end()
	hold := time.Duration(0)
	if pass {
		hold = passFor
	}
	cmd := passScript.On(f.leaseKeys(), f.wakeName(), f.token, hold.Milliseconds())
	_ = f.store.conn.Exec(context.WithoutCancel(ctx), cmd) // else the lease ends by itself
	f.token = ""
}

// end ends the renewal of the claim.
func (f *Found) end() {
	if f.stop != nil {
		f.stop()
		f.stop = nil
	}
}

// Wait returns when whoever was making what Find found missing has ended, or may have,
// and at the latest when ctx or longest ends. The caller then calls Find again; unless ok,
// as made is what was made for all while Redis is silent.
func (f *Found) Wait(ctx context.Context, longest time.Duration) (made Found, ok bool) {
	switch {
	case !f.Busy:
		return Found{}, false
	case f.solo != nil:
		return f.waitSolo(ctx, longest)
	}
	w := f.store.watch(f)
	pause(ctx, w.done, longest)
	f.store.unwatch(w)
	return Found{}, false
}

// DeleteResource removes the resource of a key with all its variants: see
// [Store.DeleteTags].
func (s *Store) DeleteResource(ctx context.Context, key string) error {
	return s.purge(ctx, "delete resource", key, hard)
}

// ExpireResource makes the resource of a key stale: see [Store.ExpireTags].
func (s *Store) ExpireResource(ctx context.Context, key string) error {
	return s.purge(ctx, "expire resource", key, soft)
}

// resource is where the resource of a key is.
func (s *Store) resource(key string) place {
	f := Found{store: s, asked: Resource{Key: key}}
	f.locate()
	return f.resource
}

func (s *Store) purge(ctx context.Context, what, key string, softly int) error {
	p := s.resource(key)
	o, err := s.write(ctx, purgeScript.On([]string{p.hash(), p.shard.meta}, newToken(), rememberTag, softly))
	s.desert()
	if err != nil {
		s.near.forget(p.shard)
		return wrap(ctx, what, err)
	}
	s.near.untagged(p.shard, []string{resourceTag(p.key)}, &o)
	return nil
}

// DeleteResources removes all resources whose name begins with prefix: see
// [Cache.DeletePrefix].
func (s *Store) DeleteResources(ctx context.Context, prefix string) error {
	return s.clear(ctx, "delete resources", "prefix", hard, resourceMark+prefix)
}

// ExpireResources makes all resources stale whose name begins with prefix.
func (s *Store) ExpireResources(ctx context.Context, prefix string) error {
	return s.clear(ctx, "expire resources", "prefix", soft, resourceMark+prefix)
}

func parseFound(reply []any, sent int64) (a answer, names string, err error) {
	if len(reply) != 9 {
		return a, "", errReply
	}
	names, _ = reply[4].(string)
	expired, ok := reply[7].(int64)
	if !ok {
		return a, "", errReply
	}
	a, err = parseAnswer([]any{reply[0], reply[1], reply[2], reply[3], reply[5], reply[6]}, sent)
	a.expired = expired == 1
	a.first, a.along = reply[8].(string)
	return a, names, err
}
