package rdb_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/internal/testkit"
)

// narrow gives the client two connections, and one for pipelines.
func narrow(o *redis.UniversalOptions) {
	o.PoolSize, o.PipelinePoolSize = 2, 1
}

// crowd makes n calls at the same time, each on a key of its own, and returns their
// errors.
func crowd(conn *rdb.Conn, n int, call func(i int) *rdb.Cmd, ctx func(i int) context.Context) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = conn.Exec(ctx(i), call(i)) })
	}
	wg.Wait()
	return errs
}

// More calls at a time than the pool has connections share pipelines: each has its
// own reply, in far fewer round trips; as many as there are connections do not.
//
// Red when attempt never rides: a round trip each.
func TestExec_sharesPipelines(t *testing.T) {
	for _, kind := range []string{"server", "cluster"} {
		t.Run(kind, func(t *testing.T) {
			b := testkit.Shared(t, kind)
			prefix := b.Prefix(t)
			client, proxies := b.ProxiedClient(t, narrow, func(o *redis.UniversalOptions) { o.PoolSize = 4 })
			conn := open(t, client, relaxed)
			set := func(i int) *rdb.Cmd {
				key := rdb.Key(prefix, "k", strconv.Itoa(i))
				return rdb.NewCmd(key, "set", key, i, "get", "ex", 100)
			}
			get := func(i int) *rdb.Cmd {
				return rdb.NewCmd(rdb.Key(prefix, "k", strconv.Itoa(i)), "get", rdb.Key(prefix, "k", strconv.Itoa(i)))
			}
			warm(t, conn, get(0))
			proxies.Each(func(p *testkit.Proxy) { p.Delay(20 * time.Millisecond) })
			proxies.Each((*testkit.Proxy).Reset)
			const n = 100
			cmds := make([]*rdb.Cmd, n)
			for _, err := range crowd(conn, n, set, func(int) context.Context { return t.Context() }) {
				if err != nil {
					t.Fatal(err)
				}
			}
			if trips := proxies.RoundTrips(); trips > n/2 {
				t.Errorf("%d calls took %d round trips; want them shared", n, trips)
			}
			for i, err := range crowd(conn, n, func(i int) *rdb.Cmd { cmds[i] = get(i); return cmds[i] }, func(int) context.Context { return t.Context() }) {
				if got, _ := cmds[i].Text(); err != nil || got != strconv.Itoa(i) {
					t.Errorf("call %d: %q, %v; want its own reply", i, got, err)
				}
			}
			proxies.Each((*testkit.Proxy).Reset)
			crowd(conn, 2, get, func(int) context.Context { return t.Context() })
			if trips := proxies.RoundTrips(); trips != 2 {
				t.Errorf("two calls took %d round trips; want 2", trips)
			}
		})
	}
}

// A caller who leaves while waiting for others' pipelines leaves alone: its
// command is not sent, and the others get theirs.
//
// Red when board does not look at p.ctx.Err.
func TestExec_leavesASharedPipelineAlone(t *testing.T) {
	b := testkit.Shared(t, "server")
	prefix := b.Prefix(t)
	client, proxies := b.ProxiedClient(t, narrow)
	conn := open(t, client, relaxed)
	key := rdb.Key(prefix, "k", "counter")
	warm(t, conn, rdb.NewCmd(key, "set", key, 0, "ex", 100))
	proxies.Each(func(p *testkit.Proxy) { p.Delay(100 * time.Millisecond) })
	incr := func(int) *rdb.Cmd { return rdb.NewCmd(key, "incr", key) }
	var ahead sync.WaitGroup
	ahead.Go(func() { crowd(conn, 3, incr, func(int) context.Context { return t.Context() }) })
	time.Sleep(10 * time.Millisecond) // all connections are taken
	impatient, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	const n = 60
	errs := crowd(conn, n, incr,
		func(i int) context.Context {
			if i%2 == 0 {
				return impatient
			}
			return t.Context()
		})
	left := 0
	for i, err := range errs {
		switch {
		case errors.Is(err, context.DeadlineExceeded) && i%2 == 0:
			left++
		case err != nil:
			t.Errorf("call %d: %v", i, err)
		}
	}
	ahead.Wait()
	proxies.Each((*testkit.Proxy).Heal)
	cmd := rdb.NewCmd(key, "get", key)
	warm(t, conn, cmd)
	if got, _ := cmd.Text(); left != n/2 || got != strconv.Itoa(3+n/2) {
		t.Errorf("%d of %d left, and %s were counted; want %d to leave, and the others and the three ahead", left, n, got, n/2)
	}
}

// A caller who leaves while its pipeline is under way takes nobody along.
//
// Red when carry runs under the first caller's context itself.
func TestExec_leavesASharedPipelineUnderWay(t *testing.T) {
	b := testkit.Shared(t, "server")
	client, proxies := b.ProxiedClient(t, narrow, func(o *redis.UniversalOptions) { o.ContextTimeoutEnabled = true })
	conn := open(t, client, relaxed)
	get := func(int) *rdb.Cmd { return rdb.NewCmd("k", "get", "k") }
	warm(t, conn, get(0))
	crowd(conn, 20, get, func(int) context.Context { return t.Context() }) // the pipelines' connection
	proxies.Each(func(p *testkit.Proxy) { p.Delay(200 * time.Millisecond) })
	var ahead sync.WaitGroup
	ahead.Go(func() { crowd(conn, 3, get, func(int) context.Context { return t.Context() }) })
	time.Sleep(50 * time.Millisecond)
	leaving, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
	defer cancel()
	ahead.Go(func() {
		if err := conn.Exec(leaving, get(0)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who leaves: %v", err)
		}
	})
	time.Sleep(50 * time.Millisecond)
	for i, err := range crowd(conn, 10, get, func(int) context.Context { return t.Context() }) {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	ahead.Wait()
}

// Commands that share a pipeline whose reply is lost are counted once, as any.
func TestExec_countedOnceInASharedPipeline(t *testing.T) {
	b := testkit.Shared(t, "server")
	prefix := b.Prefix(t)
	client, proxies := b.ProxiedClient(t, narrow)
	conn := open(t, client, relaxed)
	key := rdb.Key(prefix, "k", "counter")
	script := rdb.NewScript("return redis.call('INCR', KEYS[1])")
	warm(t, conn, script.Cmd(key))
	proxies.Each(func(p *testkit.Proxy) {
		p.Delay(10 * time.Millisecond)
		p.SwallowReply(8, "evalsha", testkit.ThenClose)
	})
	const n = 40
	errs := crowd(conn, n, func(int) *rdb.Cmd { return script.Cmd(key) }, func(int) context.Context { return t.Context() })
	answered := 0
	for _, err := range errs {
		if err == nil {
			answered++
		} else if !errors.Is(err, rdb.ErrUnavailable) {
			t.Error(err)
		}
	}
	proxies.Each((*testkit.Proxy).Heal)
	cmd := rdb.NewCmd(key, "get", key)
	warm(t, conn, cmd)
	got, _ := cmd.Text()
	if counted, _ := strconv.Atoi(got); counted > n+1 || counted < answered+1 || answered == n {
		t.Errorf("%d calls, %d answered, counted to %d; want each at most once", n, answered, counted-1)
	}
}

// What a hook panics with in a shared pipeline reaches each caller whose command
// was in it, and ends nothing else.
//
// Red when carry does not recover: it ends the process.
func TestExec_panicReachesThoseWhoShare(t *testing.T) {
	b := testkit.Shared(t, "server")
	client, proxies := b.ProxiedClient(t, narrow)
	client.AddHook(pipelinePanics{})
	conn := open(t, client, relaxed)
	proxies.Each(func(p *testkit.Proxy) { p.Delay(20 * time.Millisecond) })
	var wg sync.WaitGroup
	var mu sync.Mutex
	panicked, answered := 0, 0
	for range 20 {
		wg.Go(func() {
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				if recover() != nil {
					panicked++
				} else {
					answered++
				}
			}()
			_ = conn.Exec(t.Context(), rdb.NewCmd("k", "get", "k"))
		})
	}
	wg.Wait()
	if panicked == 0 || answered == 0 {
		t.Errorf("%d panicked, %d did not; want both those who shared and those who did not", panicked, answered)
	}
}

type pipelinePanics struct{}

func (pipelinePanics) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (pipelinePanics) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (pipelinePanics) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if cmd.Name() == "get" { // not the handshake
				panic("hook")
			}
		}
		return nil
	}
}
