package cache

import (
	"context"
	"errors"
	"maps"
	"time"
)

// solo is a resource that one caller makes while Redis is silent. Who asks this process
// within aloneFor waits for it, and has it if it fits: they are then given nothing that is
// older than they may be given by the near tier. The Store's mu guards it; made is to be
// read when done is closed.
type solo struct {
	at    nearKey
	begun int64 // on the clock of monotonic
	pass  int64 // until when nobody waits, as it could not be kept; 0 while it is made
	ended bool
	done  chan struct{}
	made  *Variant
	body  *Body
	when  time.Time // it was made
}

// findSolo is what Find has when err says that Redis is silent: the caller is to make
// the resource, or somebody else in this process does, or has found lately that nobody is
// to wait for it.
func (s *Store) findSolo(ctx context.Context, f Found, err error) (Found, error) {
	if !f.asked.Claim || ctx.Err() != nil || !errors.Is(err, ErrUnavailable) {
		return Found{}, err
	}
	f = Found{store: s, asked: f.asked, variant: f.variant, Silent: true}
	at := nearKey{f.asked.Key, f.variant, true}
	now := monotonic()
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.solos[at]
	switch {
	case a != nil && now < a.pass:
		return f, err
	case a == nil || a.pass != 0 || now-a.begun > int64(aloneFor):
		if a == nil && len(s.solos) >= maxRemembered {
			maps.DeleteFunc(s.solos, func(_ nearKey, a *solo) bool { return a.pass != 0 })
		}
		a = &solo{at: at, begun: now, done: make(chan struct{})}
		s.solos[at] = a
		f.Claimed = true
	default:
		f.Busy = true
	}
	f.solo = a
	return f, err
}

// endSolo ends what f makes alone, with what it has made, or with nothing; with pass
// nobody waits for it for a while. A body that is not all held is in nobody's reach.
func (s *Store) endSolo(f *Found, made *Variant, body *Body, pass bool) {
	if !f.Claimed {
		return
	}
	if _, held := body.Text(); !held || made != nil && made.SameBody {
		made, pass = nil, true
	}
	a := f.solo
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.ended {
		return
	}
	a.ended, a.made, a.body, a.when = true, made, body, time.Now()
	close(a.done)
	switch {
	case s.solos[a.at] != a:
	case pass: // those who wait have what was made; here it would stay
		s.solos[a.at] = &solo{at: a.at, pass: monotonic() + int64(passFor)}
	default:
		delete(s.solos, a.at)
	}
}

// waitSolo is Wait for what is made alone.
func (f *Found) waitSolo(ctx context.Context, longest time.Duration) (made Found, ok bool) {
	pause(ctx, f.solo.done, longest)
	f.store.mu.Lock()
	v, body := f.solo.made, f.solo.body
	f.store.mu.Unlock()
	if v == nil || f.asked.Variant(v.By) != v.Name {
		return Found{}, false
	}
	value, err := f.value(string(v.Data), body)
	if err != nil {
		return Found{}, false
	}
	return Found{Value: value, Body: body, StoredAt: f.solo.when, Now: time.Now(), Silent: true}, true
}

// desert has nobody wait any longer, who comes now, for what is made alone.
func (s *Store) desert() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.solos)
}
