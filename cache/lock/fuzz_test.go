package lock_test

import (
	"errors"
	"testing"
	"time"

	"github.com/go-weir/weir/cache/lock"
	"github.com/go-weir/weir/internal/testkit"
)

// Whatever stands under a lock's keys, no call panics, none takes the lock of an owner
// away, and what does not decode is ErrCorrupt.
func FuzzLocker_stored(f *testing.F) {
	f.Add("x", "1", "1", "1000", "", "1")
	f.Add("", "", "", "", "", "")
	f.Add("x", "9007199254740993", "-1", "1e3", "l", "nan")
	f.Add("x", "0x10", "inf", " 1", "l", "9007199254740992")
	b := testkit.Mini(f)
	client := b.Client(f)
	l, err := lock.New(client, lock.WithTimeout(relaxed))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, owner, token, since, ttl, label, counter string) {
		ctx := t.Context()
		client.Del(ctx, "weir:lock:{a}", "weir:lock:{a}:token")
		client.HSet(ctx, "weir:lock:{a}", "owner", owner, "token", token, "since", since, "ttl", ttl, "label", label)
		client.Set(ctx, "weir:lock:{a}:token", counter, time.Minute)
		client.PExpire(ctx, "weir:lock:{a}", time.Minute)
		h, held, err := l.Holder(ctx, "a")
		if err != nil && !errors.Is(err, lock.ErrCorrupt) || err == nil && (!held || h.Token < 0 || h.Label != label) {
			t.Errorf("holder: %+v, %v, %v", h, held, err)
		}
		if lease, ok, tryErr := l.TryAcquire(ctx, "a", long); ok || lease != nil || (tryErr == nil) != (err == nil) {
			t.Errorf("try: %v, %v, where Holder says %v", ok, tryErr, err)
		}
		client.Del(ctx, "weir:lock:{a}")
		lease, ok, err := l.TryAcquire(ctx, "a", long)
		if ok != (err == nil) || err != nil && !errors.Is(err, lock.ErrCorrupt) {
			t.Fatalf("try, with a counter of %q: %v, %v", counter, ok, err)
		}
		if ok {
			if lease.Token() <= 0 || lease.Token() > 1<<53 {
				t.Errorf("token %d after %q", lease.Token(), counter)
			}
			_ = lease.Release(ctx)
		}
	})
}
