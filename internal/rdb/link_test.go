package rdb_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/internal/testkit"
)

// ear is a listener that keeps what it is told: messages, "lost" and "gap".
type ear struct {
	mu   sync.Mutex
	told []string
}

func (e *ear) listener() rdb.Listener {
	return rdb.Listener{
		Message: func(channel, payload string) { e.note(channel + "=" + payload) },
		Lost:    func() { e.note("lost") },
		Gap:     func() { e.note("gap") },
	}
}

func (e *ear) note(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.told = append(e.told, what)
}

func (e *ear) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.told)
}

func (e *ear) count(what string) (n int) {
	for _, t := range e.all() {
		if t == what {
			n++
		}
	}
	return n
}

func (e *ear) awaits(t *testing.T, want ...string) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprintf("%q; got %q", want, e.all()), func() bool { return len(e.all()) >= len(want) })
	if got := e.all(); !slices.Equal(got, want) {
		t.Errorf("told %q; want %q", got, want)
	}
}

func ready(t *testing.T, subs ...*rdb.Subscription) {
	t.Helper()
	for _, s := range subs {
		select {
		case <-s.Ready():
		case <-time.After(30 * time.Second):
			t.Fatal("a subscription is not confirmed")
		}
	}
}

func publish(t *testing.T, client redis.UniversalClient, channel, payload string) {
	t.Helper()
	if err := client.Publish(t.Context(), channel, payload).Err(); err != nil {
		t.Fatalf("PUBLISH: %v", err)
	}
}

func live(t *testing.T, s *rdb.Subscription, want bool) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprintf("Live = %v", want), func() bool { return s.Live() == want })
}

func TestLink_contract(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		kinds := clients(t, b)
		kinds["RESP2"] = b.Client(t, func(o *redis.UniversalOptions) { o.Protocol = 2 })
		kinds["cached"] = b.Client(t, func(o *redis.UniversalOptions) {
			if b.Name() == "server" { // what others refuse
				o.ClientSideCacheConfig = new(redis.CacheConfig)
			}
		})
		kinds["no timeouts"] = b.Client(t, func(o *redis.UniversalOptions) { o.ReadTimeout, o.WriteTimeout = -1, -1 })
		for kind, client := range kinds {
			t.Run(kind, func(t *testing.T) {
				t.Parallel()
				conn, p := open(t, client, relaxed), b.Prefix(t)
				one, two, glob := new(ear), new(ear), new(ear)
				subs := []*rdb.Subscription{
					conn.Subscribe(p+":a", one.listener()),
					conn.Subscribe(p+":a", two.listener()),
					conn.SubscribePattern(rdb.Pattern(p+":"), glob.listener()),
				}
				ready(t, subs...)
				for _, s := range subs {
					live(t, s, true)
				}
				publish(t, client, p+":a", "1")
				glob.awaits(t, p+":a=1") // on a Cluster channels have no order among them
				publish(t, client, p+":b", "2")
				glob.awaits(t, p+":a=1", p+":b=2")
				publish(t, client, p+":a", "3")
				one.awaits(t, p+":a=1", p+":a=3")
				two.awaits(t, p+":a=1", p+":a=3")
				glob.awaits(t, p+":a=1", p+":b=2", p+":a=3")

				// A late one is ready at once: the channel is confirmed.
				late := new(ear)
				s := conn.Subscribe(p+":a", late.listener())
				select {
				case <-s.Ready():
				default:
					t.Error("a second subscription to a confirmed channel is not ready")
				}
				subs[0].Close()
				subs[0].Close()
				if subs[0].Live() {
					t.Error("a closed subscription is live")
				}
				publish(t, client, p+":a", "4")
				late.awaits(t, p+":a=4")
				two.awaits(t, p+":a=1", p+":a=3", p+":a=4")
				one.awaits(t, p+":a=1", p+":a=3")

				// The last one of a channel takes the SUBSCRIBE with it.
				subs[1].Close()
				s.Close()
				subs[2].Close()
				testkit.Eventually(t, "the last UNSUBSCRIBE", func() bool {
					n, err := client.PubSubNumSub(t.Context(), p+":a").Result()
					return err == nil && n[p+":a"] == 0
				})
			})
		}
	})
}

// A link on which nobody says anything is alive, and not lost, past the time after
// which it would be given up. Red when an answer to PING is not understood.
func TestLink_quiet(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		e := new(ear)
		var subs []*rdb.Subscription
		for _, protocol := range []int{2, 3} {
			conn := open(t, b.Client(t, func(o *redis.UniversalOptions) { o.Protocol = protocol }), relaxed)
			s := conn.Subscribe(b.Prefix(t), e.listener())
			defer s.Close()
			subs = append(subs, s)
		}
		ready(t, subs...)
		until := time.Now().Add(rdb.DeadAfter + 500*time.Millisecond)
		testkit.Eventually(t, "the time", func() bool { return time.Now().After(until) })
		for _, s := range subs {
			live(t, s, true)
		}
		e.awaits(t)
	})
}

// A publish from a script, on every master, is heard.
func TestLink_fromScripts(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		conn, p := open(t, b.Client(t), relaxed), b.Prefix(t)
		e := new(ear)
		sub := conn.Subscribe(p, e.listener())
		defer sub.Close()
		ready(t, sub)
		s := rdb.NewScript(`return redis.call('PUBLISH', ARGV[1], ARGV[2])`)
		var want []string
		for i := range 20 { // keys on all masters
			want = append(want, fmt.Sprint(p, "=", i))
			if err := conn.Exec(t.Context(), s.Cmd(fmt.Sprint(p, ":", i), p, i)); err != nil {
				t.Fatal(err)
			}
			// On a Cluster messages from different nodes have no order.
			testkit.Eventually(t, "message", func() bool { return len(e.all()) == i+1 })
		}
		e.awaits(t, want...)
	})
}

// pubsubs are the pub/sub connections that a server has.
func pubsubs(t *testing.T, client redis.Cmdable) int {
	t.Helper()
	list, err := client.ClientList(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(list) {
		if !strings.Contains(line, " sub=0 psub=0 ") {
			n++
		}
	}
	return n
}

// Red when core.subscribe makes a link for each Conn.
func TestLink_tenThousandChannels_oneConnection(t *testing.T) {
	t.Parallel()
	const channels = 10_000
	b := testkit.Server(t)
	client := b.Client(t)
	before := runtime.NumGoroutine()
	conns := []*rdb.Conn{open(t, client, relaxed), open(t, client, relaxed)}
	var heard atomic.Int64
	subs := make([]*rdb.Subscription, channels)
	for i := range subs {
		subs[i] = conns[i%2].Subscribe(fmt.Sprint("c", i), rdb.Listener{Message: func(string, string) { heard.Add(1) }})
	}
	ready(t, subs...)
	if got := pubsubs(t, client); got != 1 {
		t.Errorf("%d channels: got %d connections; want 1", channels, got)
	}
	if got := runtime.NumGoroutine() - before; got > 50 { // two of go-redis's for each connection of the pool
		t.Errorf("%d channels: %d goroutines more", channels, got)
	}
	pipe := client.Pipeline()
	for i := range channels {
		pipe.Publish(t.Context(), fmt.Sprint("c", i), "x")
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "all messages", func() bool { return heard.Load() == channels })
	for _, s := range subs[1:] {
		s.Close()
	}
	testkit.Eventually(t, "the UNSUBSCRIBEs", func() bool {
		all, err := client.PubSubChannels(t.Context(), "c*").Result()
		return err == nil && len(all) == 1
	})
	subs[0].Close()
	testkit.Eventually(t, "the connection's end", func() bool { return pubsubs(t, client) == 0 })
}

// Nothing is left after Close: no goroutine, no connection, and no core.
func TestLink_leavesNothing(t *testing.T) {
	b := testkit.Server(t)
	watch := b.Client(t)
	client := redis.NewClient(&redis.Options{Addr: b.Addrs()[0]})
	conn := open(t, client, relaxed)
	if err := conn.Exec(t.Context(), rdb.NewCmd("k", "get", "k")); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for range 20 {
		s := conn.Subscribe("c", rdb.Listener{})
		ready(t, s)
		s.Close()
	}
	conn.Subscribe("c", rdb.Listener{}).Close() // while it dials
	testkit.Eventually(t, "the connections' end", func() bool { return pubsubs(t, watch) == 0 })
	testkit.Eventually(t, "the goroutines' end", func() bool { return runtime.NumGoroutine() <= before })
	client.Close()
}

// faults are ways to lose the link, and how it comes back.
func TestLink_lostAndFound(t *testing.T) {
	t.Parallel()
	type fault struct {
		hurt, heal func(t *testing.T, b *testkit.Backend, p *testkit.Proxy)
	}
	for name, f := range map[string]fault{
		"killed server": {
			func(_ *testing.T, b *testkit.Backend, _ *testkit.Proxy) { b.Kill() },
			func(t *testing.T, b *testkit.Backend, _ *testkit.Proxy) { b.Restart(t) },
		},
		"stopped server": {
			func(_ *testing.T, b *testkit.Backend, _ *testkit.Proxy) { b.Pause() },
			func(_ *testing.T, b *testkit.Backend, _ *testkit.Proxy) { b.Resume() },
		},
		"black hole": {
			func(_ *testing.T, _ *testkit.Backend, p *testkit.Proxy) { p.Hang() },
			func(_ *testing.T, _ *testkit.Backend, p *testkit.Proxy) { p.Heal() },
		},
		"refused": {
			func(_ *testing.T, _ *testkit.Backend, p *testkit.Proxy) { p.Refuse(); p.Cut() },
			func(_ *testing.T, _ *testkit.Backend, p *testkit.Proxy) { p.Heal() },
		},
		"CLIENT KILL": {
			func(t *testing.T, b *testkit.Backend, _ *testkit.Proxy) {
				if err := b.Client(t).ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
					t.Error(err)
				}
			},
			func(*testing.T, *testkit.Backend, *testkit.Proxy) {},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := testkit.Server(t)
			p := testkit.NewProxy(t, b.Addrs()[0])
			conn := open(t, p.Client(t), relaxed)
			one, two := new(ear), new(ear)
			s1, s2 := conn.Subscribe("a", one.listener()), conn.SubscribePattern("b*", two.listener())
			defer s1.Close()
			defer s2.Close()
			ready(t, s1, s2)
			live(t, s1, true)
			publish(t, b.Client(t), "a", "1")
			one.awaits(t, "a=1")

			begun := time.Now()
			f.hurt(t, b, p)
			if name != "CLIENT KILL" { // which is over before it can be seen
				live(t, s1, false)
				testkit.Eventually(t, "Lost", func() bool { return one.count("lost") == 1 && two.count("lost") == 1 })
				// The bounds, and a slow machine's share.
				if took := time.Since(begun); took > rdb.DeadAfter+3*time.Second {
					t.Errorf("lost after %v; want %v", took, rdb.DeadAfter)
				}
				if s1.Live() {
					t.Error("live while lost")
				}
			}
			f.heal(t, b, p)
			one.awaits(t, "a=1", "lost", "gap")
			two.awaits(t, "lost", "gap")
			live(t, s1, true)
			live(t, s2, true)
			publish(t, b.Client(t), "a", "2")
			publish(t, b.Client(t), "b", "3")
			one.awaits(t, "a=1", "lost", "gap", "a=2")
			two.awaits(t, "lost", "gap", "b=3")
		})
	}
}

// Red when Live does not look at heardAt: it is false a second before the link is
// given up, and nobody is told of a gap if the server comes back in between.
func TestLink_suspectedBeforeLost(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	conn := open(t, b.Client(t), relaxed)
	for range 5 { // a slow machine may miss the moment between
		e := new(ear)
		s := conn.Subscribe("a", e.listener())
		ready(t, s)
		live(t, s, true)
		b.Pause()
		live(t, s, false)
		suspected := len(e.all()) == 0
		b.Resume()
		live(t, s, true)
		s.Close()
		if suspected && len(e.all()) == 0 {
			return
		}
	}
	t.Error("never suspected before it was lost")
}

// Who asks Live must not trust what Gap is about to take away. Red when confirm sets
// live before it calls gap.
func TestLink_notLiveBeforeGap(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	conn := open(t, b.Client(t), relaxed)
	seen := make(chan bool, 2)
	var s *rdb.Subscription
	note := func() { seen <- s.Live() }
	s = conn.Subscribe("a", rdb.Listener{Lost: note, Gap: note})
	defer s.Close()
	ready(t, s)
	if err := b.Client(t).ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	if inLost, inGap := <-seen, <-seen; inLost || inGap {
		t.Errorf("live in Lost: %v, in Gap: %v; want false", inLost, inGap)
	}
	live(t, s, true)
}

// A lost connection is replaced once, by the link. Red when ended has not ended: go-redis
// then makes a connection of its own before it tells of the loss, and while it dials
// nobody is told.
func TestLink_noSilentReconnect(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	where := new(atomic.Pointer[string])
	where.Store(&b.Addrs()[0])
	var dials atomic.Int64
	client := b.Client(t, func(o *redis.UniversalOptions) {
		o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if ctx.Err() == nil {
				dials.Add(1)
			}
			return dialer(where)(ctx, network, addr)
		}
	})
	conn := open(t, client, relaxed)
	e := new(ear)
	s := conn.Subscribe("a", e.listener())
	defer s.Close()
	ready(t, s)
	// By the time of the first echo the pool has its connection.
	testkit.Eventually(t, "the probe's connection", func() bool { return dials.Load() == 2 })
	if err := b.Client(t).ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	e.awaits(t, "lost", "gap")
	if got := dials.Load(); got != 3 {
		t.Errorf("got %d dials; want 3: one more than before", got)
	}
}

// A server that answers PING and no longer gets what is published: centrifuge#594.
// Red when serve does not probe.
func TestLink_wedged(t *testing.T) {
	t.Parallel()
	fine, wedged := testkit.Server(t), testkit.Server(t)
	where := new(atomic.Pointer[string])
	lead := func(b *testkit.Backend) { where.Store(&b.Addrs()[0]) }
	lead(fine)
	// The next dial goes elsewhere: so that only the link's connection does.
	client := fine.Client(t, func(o *redis.UniversalOptions) {
		o.Dialer = dialer(where)
		o.PoolSize = 1
	})
	conn := open(t, client, relaxed)
	if err := conn.Exec(t.Context(), rdb.NewCmd("k", "get", "k")); err != nil {
		t.Fatal(err) // the pool's connection is to the fine one
	}
	lead(wedged)
	e := new(ear)
	s := conn.Subscribe("a", e.listener())
	defer s.Close()
	ready(t, s)
	testkit.Eventually(t, "Lost", func() bool { return e.count("lost") >= 1 })
	// It is not trusted again for answering PING: red when distrust is left out.
	testkit.Eventually(t, "another Lost", func() bool {
		if s.Live() {
			t.Fatal("live on a wedged server")
		}
		return e.count("lost") >= 2
	})
	lead(fine)
	live(t, s, true)
	publish(t, fine.Client(t), "a", "1")
	testkit.Eventually(t, "a message", func() bool { return e.count("a=1") == 1 })
	if lost, gaps := e.count("lost"), e.count("gap"); lost != gaps {
		t.Errorf("got %d times lost, %d gaps; want one for each", lost, gaps)
	}
}

// dialer dials what where names at the time.
func dialer(where *atomic.Pointer[string]) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, *where.Load())
	}
}

// A user who may not publish to the link's own channel has no probe, and a link all
// the same; one who may not subscribe to a channel never gets Ready for that one.
func TestLink_forbidden(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string][]string{
		"no publish":     {"+@all", "-publish", "allchannels"},
		"no own channel": {"+@all", "resetchannels", "&open*"},
		"no ping":        {"+@all", "-ping", "allchannels"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := testkit.Server(t)
			admin := b.Client(t)
			args := []any{"acl", "setuser", "app", "on", ">secret", "allkeys"}
			for _, r := range rules {
				args = append(args, r)
			}
			if err := admin.Do(t.Context(), args...).Err(); err != nil {
				t.Fatal(err)
			}
			conn := open(t, b.Client(t, func(o *redis.UniversalOptions) { o.Username, o.Password = "app", "secret" }), relaxed)
			e, never := new(ear), new(ear)
			s := conn.Subscribe("open1", e.listener())
			other := conn.Subscribe("open2", rdb.Listener{})
			defer s.Close()
			defer other.Close()
			var closed *rdb.Subscription
			if name == "no own channel" {
				// In one SUBSCRIBE with the others, or not: they stand.
				closed = conn.Subscribe("closed", never.listener())
				defer closed.Close()
			}
			ready(t, s, other)
			live(t, s, true)
			// Past the time in which the echo would be missed.
			until := time.Now().Add(rdb.EchoEvery + rdb.EchoWithin + 500*time.Millisecond)
			testkit.Eventually(t, "the time", func() bool { return time.Now().After(until) })
			live(t, s, true)
			publish(t, admin, "open1", "1")
			e.awaits(t, "open1=1")
			if closed == nil {
				return
			}
			if err := admin.Do(t.Context(), "acl", "setuser", "app", "&closed").Err(); err != nil {
				t.Fatal(err)
			}
			ready(t, closed) // it is asked for again
			live(t, closed, true)
		})
	}
}

// Close may be called from a listener, also for the last subscription.
func TestSubscription_Close_fromListener(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	client := b.Client(t)
	conn := open(t, client, relaxed)
	var heard atomic.Int64
	var s *rdb.Subscription
	set := make(chan struct{})
	s = conn.Subscribe("a", rdb.Listener{Message: func(string, string) {
		<-set
		heard.Add(1)
		s.Close()
	}})
	close(set)
	ready(t, s)
	for range 10 {
		publish(t, client, "a", "x")
	}
	testkit.Eventually(t, "the link's end", func() bool { return pubsubs(t, client) == 0 })
	if got := heard.Load(); got != 1 {
		t.Errorf("heard %d messages; want the one that closed it", got)
	}
}

// Red when message does not recover.
func TestListener_panics(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	client := b.Client(t)
	conn := open(t, client, relaxed)
	bad, good := new(ear), new(ear)
	l := bad.listener()
	tell := l.Message
	l.Message = func(c, p string) {
		tell(c, p)
		if p == "1" {
			panic("a test's own")
		}
	}
	s1 := conn.Subscribe("a", l)
	s2 := conn.Subscribe("a", good.listener())
	defer s1.Close()
	defer s2.Close()
	ready(t, s1, s2)
	publish(t, client, "a", "1")
	publish(t, client, "a", "2")
	bad.awaits(t, "a=1", "lost", "gap", "a=2")
	good.awaits(t, "a=1", "a=2")
}

// Subscribe, messages and Close side by side, under -race; and after Close no call.
func TestLink_concurrent(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	client := b.Client(t)
	conn := open(t, client, relaxed)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if err := client.Publish(ctx, fmt.Sprint("c", i%5), i).Err(); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
	wg.Go(func() {
		killer := b.Client(t)
		for ctx.Err() == nil {
			killer.ClientKillByFilter(ctx, "TYPE", "pubsub")
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			for i := range 100 {
				var lost atomic.Int64
				heard := make(chan struct{}, 1)
				s := conn.Subscribe(fmt.Sprint("c", (w+i)%5), rdb.Listener{
					Message: func(string, string) {
						select {
						case heard <- struct{}{}:
						default:
						}
					},
					Lost: func() {
						if lost.Add(1) != 1 {
							t.Error("Lost twice without Gap")
						}
					},
					Gap: func() {
						if lost.Add(-1) != 0 {
							t.Error("Gap without Lost")
						}
					},
				})
				if i%3 > 0 {
					<-s.Ready()
				}
				if i%3 == 1 {
					<-heard
				}
				s.Live()
				s.Close()
			}
		})
	}
	workers.Wait()
	cancel()
	wg.Wait()
	testkit.Eventually(t, "the link's end", func() bool { return pubsubs(t, b.Client(t)) == 0 })
}

// The link follows a Sentinel to the new master.
func TestLink_sentinelFailover(t *testing.T) {
	t.Parallel()
	b := testkit.Sentinel(t)
	client := b.Client(t)
	conn := open(t, client, relaxed)
	e := new(ear)
	s := conn.Subscribe("a", e.listener())
	defer s.Close()
	ready(t, s)
	live(t, s, true)
	b.Nodes()[0].Kill()
	e.awaits(t, "lost")
	testkit.Eventually(t, "the new master", func() bool { return e.count("gap") == 1 })
	live(t, s, true)
	testkit.Eventually(t, "a message", func() bool {
		return client.Publish(t.Context(), "a", "1").Err() == nil
	})
	testkit.Eventually(t, "a message", func() bool { return e.count("a=1") >= 1 })
}

// A Cluster's link outlives the node it is on.
func TestLink_clusterNodeLost(t *testing.T) {
	t.Parallel()
	b := testkit.Cluster3(t, "--cluster-require-full-coverage", "no")
	client := b.Client(t)
	conn := open(t, client, relaxed)
	e := new(ear)
	s := conn.Subscribe("a", e.listener())
	defer s.Close()
	ready(t, s)
	live(t, s, true)
	for i, node := range b.Nodes() {
		// Whichever it is on.
		addr := node.Addr()
		direct := redis.NewClient(&redis.Options{Addr: addr})
		defer direct.Close()
		if pubsubs(t, direct) == 0 {
			continue
		}
		node.Kill()
		e.awaits(t, "lost", "gap")
		other := redis.NewClient(&redis.Options{Addr: b.Nodes()[(i+1)%3].Addr()})
		defer other.Close()
		publish(t, other, "a", "1")
		testkit.Eventually(t, "a message", func() bool { return e.count("a=1") == 1 })
		return
	}
	t.Fatal("the link is on no node")
}

// A Cluster's node that answers, and to which the others no longer pass on what is
// published. Red when the probe goes by that node alone.
func TestLink_clusterWedged(t *testing.T) {
	t.Parallel()
	b := testkit.Cluster3(t, "--cluster-require-full-coverage", "no")
	client := b.Client(t)
	conn := open(t, client, relaxed)
	e := new(ear)
	s := conn.Subscribe("a", e.listener())
	defer s.Close()
	ready(t, s)
	live(t, s, true)
	var others []*redis.Client
	wedged := ""
	for _, node := range b.Nodes() {
		direct := redis.NewClient(&redis.Options{Addr: node.Addr()})
		defer direct.Close()
		if pubsubs(t, direct) == 0 {
			others = append(others, direct)
			continue
		}
		id, err := direct.Do(t.Context(), "cluster", "myid").Text()
		if err != nil {
			t.Fatal(err)
		}
		wedged = id
	}
	if wedged == "" || len(others) != 2 {
		t.Fatalf("the link is not on one node: %d have none", len(others))
	}
	for _, o := range others {
		if err := o.ClusterForget(t.Context(), wedged).Err(); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "Lost", func() bool { return e.count("lost") >= 1 })
	testkit.Eventually(t, "a link elsewhere", s.Live)
	testkit.Eventually(t, "a message", func() bool {
		publish(t, others[0], "a", "1")
		return e.count("a=1") > 0
	})
	if lost, gaps := e.count("lost"), e.count("gap"); lost != gaps {
		t.Errorf("got %d times lost, %d gaps; want one for each", lost, gaps)
	}
}
