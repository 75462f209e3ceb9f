package cache_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

// soak reports whether campaigns are to take their long form: make soak.
func soak() bool { return os.Getenv("WEIR_SOAK") != "" }

// crowd is what each of several processes does: all ask for one cold key after another.
type crowd struct {
	Spec, Prefix                  string
	Processes, Goroutines, Rounds int
	Near                          bool
}

func init() {
	testkit.Role("crowd", runCrowd)
	testkit.Role("leader", runLeader)
}

func runCrowd(ctx context.Context, args []string) error {
	var c crowd
	if err := json.Unmarshal([]byte(args[0]), &c); err != nil {
		return err
	}
	client, err := testkit.Connect(c.Spec)
	if err != nil {
		return err
	}
	defer client.Close()
	options := []cache.Option{cache.WithPrefix(c.Prefix), cache.WithTimeout(patience), cache.WithTTL(time.Hour), cache.WithLease(time.Minute)}
	if c.Near {
		options = append(options, cache.WithNear(1<<20))
	}
	store, err := cache.New(client, options...)
	if err != nil {
		return err
	}
	defer store.Close()
	view, err := cache.For[string](store, "v")
	if err != nil {
		return err
	}
	for round := range c.Rounds {
		if err := c.meet(ctx, client, round); err != nil {
			return err
		}
		key := fmt.Sprint("key ", round)
		errs := make([]error, c.Goroutines)
		var wg sync.WaitGroup
		for i := range c.Goroutines {
			wg.Go(func() {
				got, err := view.Load(ctx, key, func(ctx context.Context) (string, error) {
					n, err := client.Incr(ctx, c.Prefix+":loads:"+key).Result()
					pause(ctx, 2*time.Millisecond)
					return fmt.Sprint("value ", n), err
				})
				if err == nil && got != "value 1" {
					err = fmt.Errorf("%s: got %q; want the first load's value", key, got)
				}
				errs[i] = err
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

// meet waits until all processes are there.
func (c *crowd) meet(ctx context.Context, client redis.UniversalClient, round int) error {
	at := fmt.Sprint(c.Prefix, ":meet:", round)
	n, err := client.Incr(ctx, at).Result()
	for err == nil && n < int64(c.Processes) {
		pause(ctx, time.Millisecond)
		n, err = client.Get(ctx, at).Int64()
	}
	return err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// Three processes with 200 goroutines each ask for a cold key at once: one load, of
// which all have the value.
//
// Red when ask.lua takes a lease that there is (no "if not l"), when wait never asks
// again after it has subscribed, or when fill.lua does not wake.
func TestLoad_stampede(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes several processes")
	}
	t.Parallel()
	for _, kind := range []string{"server", "cluster3"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, kind)
			c := crowd{Spec: b.Spec(), Prefix: b.Prefix(t), Processes: 3, Goroutines: 200, Rounds: 25, Near: kind == "server"}
			if soak() {
				c.Rounds = 1000
			}
			args, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			testkit.Spawn(t, c.Processes, "crowd", string(args)).Wait()
			client := b.Client(t)
			for round := range c.Rounds {
				key := fmt.Sprint(c.Prefix, ":loads:key ", round)
				if n, err := client.Get(t.Context(), key).Int(); err != nil || n != 1 {
					t.Errorf("round %d: %d loads, %v; want 1", round, n, err)
				}
			}
		})
	}
}

// runLeader takes a key's lease and says so; its load never ends.
func runLeader(ctx context.Context, args []string) error {
	client, err := testkit.Connect(args[0])
	if err != nil {
		return err
	}
	defer client.Close()
	store, err := cache.New(client, cache.WithPrefix(args[1]), cache.WithTimeout(patience), cache.WithTTL(time.Hour), cache.WithLease(500*time.Millisecond))
	if err != nil {
		return err
	}
	view, err := cache.For[string](store, "v")
	if err != nil {
		return err
	}
	_, err = view.Load(ctx, "k", func(ctx context.Context) (string, error) {
		testkit.Emit("loading")
		<-ctx.Done()
		return "", ctx.Err()
	})
	return err
}

// A process is killed while it loads: those who wait load once more, when its lease
// has ended.
//
// Red when ask.lua sets a lease without PX.
func TestLoad_killedLeader(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes several processes")
	}
	t.Parallel()
	b := testkit.Shared(t, "server")
	prefix := b.Prefix(t)
	leader := testkit.Spawn(t, 1, "leader", b.Spec(), prefix)
	leader.Next()
	store, err := cache.New(b.Client(t), cache.WithPrefix(prefix), cache.WithTimeout(patience), cache.WithTTL(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	view, err := cache.For[string](store, "v")
	if err != nil {
		t.Fatal(err)
	}
	loads := make(chan struct{}, 100)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			v, err := view.Load(t.Context(), "k", func(context.Context) (string, error) {
				loads <- struct{}{}
				return "ours", nil
			})
			if v != "ours" || err != nil {
				t.Errorf("got %q, %v", v, err)
			}
		})
	}
	leader.Kill(0)
	wg.Wait()
	if n := len(loads); n != 1 {
		t.Errorf("%d loads after the leader died; want 1", n)
	}
}
