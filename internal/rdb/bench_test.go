package rdb_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/internal/testkit"
)

// What a call costs over go-redis alone: with the goroutine that a default
// client needs, and with a client that keeps deadlines itself.
func BenchmarkExec(b *testing.B) {
	backend := testkit.Server(b)
	contextual := func(o *redis.UniversalOptions) { o.ContextTimeoutEnabled = true }
	script := rdb.NewScript("return redis.call('INCR', KEYS[1])")
	plain := backend.Client(b)
	sha := plain.ScriptLoad(b.Context(), "return redis.call('INCR', KEYS[1])").Val()
	calls := []struct {
		name string
		call func(context.Context) error
	}{
		{"go-redis", func(ctx context.Context) error { return plain.EvalSha(ctx, sha, []string{"k"}).Err() }},
		{"default client", execer(b, backend.Client(b), script)},
		{"ContextTimeoutEnabled", execer(b, backend.Client(b, contextual), script)},
	}
	for _, callers := range []int{1, 16, 128} {
		for _, c := range calls {
			b.Run(fmt.Sprintf("%s/callers=%d", c.name, callers), func(b *testing.B) {
				b.ReportAllocs()
				run(b, callers, c.call)
			})
		}
	}
}

func execer(b *testing.B, client redis.UniversalClient, script *rdb.Script) func(context.Context) error {
	conn := open(b, client, time.Second)
	return func(ctx context.Context) error { return conn.Exec(ctx, script.Cmd("k")) }
}

// run calls f from exactly that many goroutines.
func run(b *testing.B, callers int, f func(context.Context) error) {
	work := make(chan struct{}, callers)
	done := make(chan error, callers)
	for range callers {
		go func() {
			var first error
			for range work {
				if err := f(context.Background()); err != nil && first == nil {
					first = err
				}
			}
			done <- first
		}()
	}
	for b.Loop() {
		work <- struct{}{}
	}
	close(work)
	for range callers {
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}

func BenchmarkKey(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		rdb.Key("weir", "limit", rdb.Digest("10/1s", "203.0.113.7")[:22])
	}
}

// What a near tier asks before each hit.
func BenchmarkSubscription_Live(b *testing.B) {
	conn := open(b, testkit.Mini(b).Client(b), relaxed)
	s := conn.Subscribe("a", rdb.Listener{})
	defer s.Close()
	<-s.Ready()
	b.ReportAllocs()
	for b.Loop() {
		s.Live()
	}
}
