package middleware

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/go-weir/weir/ratelimit"
)

// fields says verdicts in header fields.
type fields struct {
	reset   ResetForm
	dialect Dialect
	pk      *partitions // nil without WithPartitionKey
}

// verdict is what the fields are about.
type verdict struct {
	ratelimit.Result
	key    string
	cost   int
	denied bool // the request is refused; of cost 0 it may pass all the same
}

// announce sets the fields of v, a verdict of p's limiter, in h.
func (f *fields) announce(h http.Header, p *policy, v *verdict) {
	// One allocation for lists that share nothing: none has room to grow.
	values := new([5]string)
	var kept [8]ratelimit.Status // as many limits as a limiter takes
	all := kept[:0]
	for s := range v.All() {
		if v.Banned { // whatever room there is, the key cannot use it before
			s.Remaining, s.ResetAfter = 0, v.RetryAfter
		}
		all = append(all, s)
	}
	if len(all) > 0 {
		f.setTriple(h, p, v, all, values)
		if f.dialect != NoDialect {
			f.addLists(h, p, v, all, values)
		}
	}
	if v.denied && !v.Never {
		h.Set("Retry-After", strconv.FormatInt(v.retryAfter(), 10))
	}
}

// counted reports whether there is anything to say: what passed without being
// counted tells clients nothing.
func (v *verdict) counted() bool {
	return v.Standin == nil || v.ResetAfter > 0 || !v.Allowed
}

// retryAfter is in how many seconds a refused request would be admitted. It is at
// least 1, as nobody is told to come back at once; so it is when AtOnce alone
// refuses, as nobody knows when a holder is done. It is no less than the t of a
// limit that refuses (draft-ietf-httpapi-ratelimit-headers-11 asks for that): a
// limit has room for the request no sooner than for any.
func (v *verdict) retryAfter() int64 { return max(1, ceilSeconds(v.RetryAfter)) }

// setTriple sets the X-RateLimit fields, about one limit, unless those of a
// RateLimit outside are about a tighter one.
func (f *fields) setTriple(h http.Header, p *policy, v *verdict, all []ratelimit.Status, values *[5]string) {
	i := told(v, all)
	s := &all[i]
	if outer := h["X-Ratelimit-Remaining"]; len(outer) == 1 && !v.denied {
		if remaining, err := strconv.Atoi(outer[0]); err == nil && remaining <= s.Remaining {
			return
		}
	}
	values[0] = requestsOf(p, s.Limit)
	values[1] = strconv.Itoa(s.Remaining)
	// The canonical forms, set without canonicalizing again.
	h["X-Ratelimit-Limit"], h["X-Ratelimit-Remaining"] = values[0:1:1], values[1:2:2]
	if s.Limit.Kind() == ratelimit.InFlight && !v.Banned {
		delete(h, "X-Ratelimit-Reset") // nobody knows when a holder is done
		return
	}
	values[2] = f.resetAt(v.At, s.ResetAfter)
	h["X-Ratelimit-Reset"] = values[2:3:3]
}

// told is which limit the X-RateLimit fields are about: the verdict's own. Only
// AtOnce, which has the least room nearly always, gives way to the tightest of the
// others unless it is what refuses: clients pace themselves by these fields.
func told(v *verdict, all []ratelimit.Status) int {
	own, other := 0, -1
	for i := range all {
		s := &all[i]
		if s.Limit == v.Limit {
			own = i
		}
		if s.Limit.Kind() != ratelimit.InFlight && (other < 0 || s.Remaining < all[other].Remaining) {
			other = i
		}
	}
	if v.Allowed && other >= 0 && all[own].Limit.Kind() == ratelimit.InFlight {
		return other
	}
	return own
}

// requestsOf is the limit's number as text, made beforehand if p knows the limit.
func requestsOf(p *policy, limit ratelimit.Limit) string {
	if t := p.tier(limit); t != nil {
		return t.requests
	}
	return strconv.Itoa(quotaOf(limit))
}

func (f *fields) resetAt(at time.Time, after time.Duration) string {
	if f.reset == ResetDelta {
		return strconv.FormatInt(ceilSeconds(after), 10)
	}
	reset := at.Add(after)
	seconds := reset.Unix()
	if reset.Nanosecond() > 0 {
		seconds++ // rounded down, it would send clients too early
	}
	if f.reset == ResetISO8601 {
		return time.Unix(seconds, 0).UTC().Format(time.RFC3339)
	}
	return strconv.FormatInt(seconds, 10)
}

// addLists adds RateLimit-Policy and RateLimit behind those of a RateLimit outside:
// both are Lists, which may be in several lines (RFC 9651 section 3.1). RateLimit
// is about the limits that the verdict knows of: all, but for a denial that the
// limiter remembered.
func (f *fields) addLists(h http.Header, p *policy, v *verdict, all []ratelimit.Status, values *[5]string) {
	var room [256]byte // RateLimit of most limiters
	b := room[:0]
	var pk []byte
	if f.pk != nil {
		var room [pkLength]byte
		pk = f.pk.appendOf(room[:0], v.key)
	}
	values[3] = p.field
	if pk != nil {
		for i := range p.tiers {
			b = appendMember(b, p.tiers[i].policy)
			b = append(b, pk...)
		}
		values[3] = string(b)
		b = b[:0]
	}
	available, window := ";r=", ";t="
	if f.dialect == Editors2026 {
		available, window = ";a=", ";w="
	}
	for i := range all {
		s := &all[i]
		t := p.tier(s.Limit)
		if t == nil {
			continue // a limit nobody was told of
		}
		b = appendMember(b, t.name)
		b = append(b, available...)
		b = strconv.AppendInt(b, int64(s.Remaining), 10)
		// Without requests counted there is no window; AtOnce has none.
		if s.ResetAfter > 0 && (s.Limit.Kind() != ratelimit.InFlight || v.Banned) {
			b = append(b, window...)
			b = strconv.AppendInt(b, ceilSeconds(s.ResetAfter), 10)
		}
		if f.dialect == Editors2026 {
			b = append(b, ";c="...)
			b = strconv.AppendInt(b, int64(v.consumed(s.Limit)), 10)
		}
		b = append(b, pk...)
	}
	addLine(h, "Ratelimit-Policy", values[3:4:4])
	if len(b) > 0 { // there is no empty List in a field
		values[4] = string(b)
		addLine(h, "Ratelimit", values[4:5:5])
	}
}

// consumed is what the request was counted as by limit.
func (v *verdict) consumed(limit ratelimit.Limit) int {
	switch {
	case !v.Allowed || v.cost == 0:
		return 0
	case limit.Kind() == ratelimit.InFlight:
		return 1
	}
	return v.cost
}

func appendMember(b []byte, member string) []byte {
	if len(b) > 0 {
		b = append(b, ", "...)
	}
	return append(b, member...)
}

// addLine adds line, which nobody else has, to a field, whose lines somebody else
// may have.
func addLine(h http.Header, name string, line []string) {
	if lines := h[name]; len(lines) > 0 {
		line = append(lines[:len(lines):len(lines)], line...)
	}
	h[name] = line
}

// pkLength is how long the parameter pk is.
const pkLength = len(";pk=:") + 24 + len(":")

// partitions makes partition keys of keys.
type partitions struct{ macs sync.Pool }

func newPartitions(secret []byte) *partitions {
	return &partitions{sync.Pool{New: func() any { return hmac.New(sha256.New, secret) }}}
}

// appendOf appends the parameter pk of key.
func (p *partitions) appendOf(b []byte, key string) []byte {
	mac := p.macs.Get().(hash.Hash)
	defer p.macs.Put(mac)
	mac.Reset()
	_, _ = io.WriteString(mac, key) // a Hash never fails
	var sum [sha256.Size]byte
	b = append(b, ";pk=:"...)
	b = base64.StdEncoding.AppendEncode(b, mac.Sum(sum[:0])[:minSecret])
	return append(b, ':')
}
