package cache

import "time"

// nearFound is what the near tier has of a variant: what was found, and when, on the
// clock of monotonic.
type nearFound struct {
	value         any
	body          *Body
	stored, found time.Time // by Redis's clock
	at            int64
	state         state
}

// resourceTag is the tag that all variants of a resource have in the near tier.
func resourceTag(digest string) string { return resourceMark + digest }

// findNear returns a variant that is near and fresh. In the near tier a resource stands
// under its key, and a variant as the caller says it: neither is digested for a hit.
func (s *Store) findNear(r *Resource, variant string) (f Found, ok bool) {
	if s.near == nil {
		return Found{}, false
	}
	held, ok := s.near.get(nearKey{r.Key, variant, true})
	if !ok {
		return Found{}, false
	}
	n := held.(*nearFound)
	return Found{
		Near: true, Value: n.value, Body: n.body, StoredAt: n.stored, Now: n.found.Add(time.Duration(monotonic() - n.at)),
		store: s, asked: *r, variant: variant, state: n.state,
	}, true
}

// keepFound holds what was read from Redis.
func (n *near) keepFound(f *Found, a *answer) {
	if n == nil {
		return
	}
	left := (a.entry.fresh-a.now)*int64(time.Millisecond) - int64(drawn(f.asked.Early, a.entry.cost))
	n.putFound(f, f.variant, &nearFound{f.Value, f.Body.kept(), f.StoredAt, f.Now, f.sent, a.state}, &item{
		until: a.sent + left, size: weight(&f.resource, a.size+f.Body.near()),
	}, a.entry.tags)
}

// keepVariant holds what this process has just stored. Its age counts from before that.
func (n *near) keepVariant(f *Found, v *Variant, o *outcome, k *keeping, body *Body) {
	if n == nil {
		return
	}
	n.knows(n.shard(f.resource.shard), o.state)
	value, err := f.value(string(v.Data), body)
	if err != nil || v.Fresh == 0 {
		return
	}
	tags := make([]string, len(v.Tags))
	for i, t := range v.Tags {
		tags[i] = tagName(t)
	}
	now := f.Now.Add(time.Duration(o.sent - f.sent))
	n.putFound(f, v.Name, &nearFound{value, body.kept(), now, now, o.sent, o.state}, &item{
		until: o.sent + int64(k.ttl-drawn(f.asked.Early, k.cost)), size: weight(&f.resource, len(v.Data)+body.near()),
	}, tags)
}

func (n *near) putFound(f *Found, variant string, value *nearFound, it *item, tags []string) {
	it.value = value
	p := place{view: f.asked.Key, key: variant, name: f.resource.name, shard: f.resource.shard, resource: true}
	n.put(&p, it, value.state, append(tags, resourceTag(f.resource.key)))
}
