package testkit_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/redis/go-redis/v9"
)

// eachProxied runs a test of the proxy before miniredis and before redis-server,
// as the two cut their replies up differently. direct goes round the proxy.
func eachProxied(t *testing.T, run func(t *testing.T, p *testkit.Proxy, direct redis.UniversalClient, key string)) {
	t.Helper()
	one := func(t *testing.T, b *testkit.Backend) {
		run(t, testkit.NewProxy(t, b.Addrs()[0]), b.Client(t), b.Prefix(t))
	}
	t.Run("mini", func(t *testing.T) { one(t, testkit.Mini(t)) })
	t.Run("server", func(t *testing.T) { one(t, testkit.Shared(t, "server")) })
}

func TestProxy_counts(t *testing.T) {
	t.Parallel()
	eachProxied(t, func(t *testing.T, p *testkit.Proxy, _ redis.UniversalClient, key string) {
		ctx := t.Context()
		client := p.Client(t)
		script := redis.NewScript("return '" + key + "'") // in no cache yet
		big := strings.Repeat("x", 20_000)
		for _, tt := range []struct {
			name            string
			do              func() error
			commands, trips int
		}{
			{"one command", func() error { return client.Incr(ctx, key).Err() }, 1, 1},
			{"three in a row", func() error {
				for range 3 {
					if err := client.Incr(ctx, key).Err(); err != nil {
						return err
					}
				}
				return nil
			}, 3, 3},
			{"a pipeline of five", func() error {
				_, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
					for range 5 {
						pipe.Incr(ctx, key)
					}
					return nil
				})
				return err
			}, 5, 1},
			{"a transaction", func() error {
				_, err := client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
					pipe.Incr(ctx, key)
					pipe.Incr(ctx, key)
					return nil
				})
				return err
			}, 4, 1},
			{"a script not cached", func() error { return script.Run(ctx, client, nil).Err() }, 2, 2},
			{"a script cached", func() error { return script.Run(ctx, client, nil).Err() }, 1, 1},
			{"a long value", func() error { return client.Set(ctx, key+"big", big, time.Minute).Err() }, 1, 1},
			{"a long reply", func() error { return client.Get(ctx, key+"big").Err() }, 1, 1},
			{"an error", func() error {
				if err := client.LPush(ctx, key, "x").Err(); err == nil {
					return errors.New("got no WRONGTYPE")
				}
				return nil
			}, 1, 1},
			{"nil and nested replies", func() error {
				_, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
					pipe.MGet(ctx, key, key+"none")
					pipe.Eval(ctx, "return {1,{2,{'3',false}},'4'}", nil)
					pipe.HGetAll(ctx, key+"none")
					return nil
				})
				return err
			}, 3, 1},
		} {
			p.Reset()
			if err := tt.do(); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if p.Commands() != tt.commands || p.RoundTrips() != tt.trips {
				t.Errorf("%s: got %d commands in %d trips; want %d in %d",
					tt.name, p.Commands(), p.RoundTrips(), tt.commands, tt.trips)
			}
		}
	})
}

func TestProxy_countsConnectionsNotHandshakes(t *testing.T) {
	t.Parallel()
	eachProxied(t, func(t *testing.T, p *testkit.Proxy, _ redis.UniversalClient, _ string) {
		for range 3 {
			if err := p.Client(t).Ping(t.Context()).Err(); err != nil {
				t.Fatalf("PING: %v", err)
			}
		}
		if p.Connections() != 3 || p.Commands() != 3 || p.RoundTrips() != 3 {
			t.Errorf("got %d connections, %d commands, %d trips; want 3 each", p.Connections(), p.Commands(), p.RoundTrips())
		}
		p.Reset()
		if p.Connections() != 0 || p.Commands() != 0 || p.RoundTrips() != 0 || p.Swallowed() != 0 {
			t.Error("Reset left a counter")
		}
	})
}

// A pipeline sent a byte at a time is still one trip: the proxy passes on what is
// complete. The inline command is what a person types.
func TestProxy_countsBytewise(t *testing.T) {
	t.Parallel()
	eachProxied(t, func(t *testing.T, p *testkit.Proxy, _ redis.UniversalClient, _ string) {
		conn, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, b := range []byte("*2\r\n$4\r\nECHO\r\n$4\r\n\r\n*1\r\n") {
			if _, err := conn.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		want := "$4\r\n\r\n*1\r\n"
		got := make([]byte, len(want))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
		if p.Commands() != 1 || p.RoundTrips() != 1 {
			t.Errorf("got %d commands in %d trips; want 1 in 1", p.Commands(), p.RoundTrips())
		}
	})
}

func TestProxy_delay(t *testing.T) {
	t.Parallel()
	eachProxied(t, func(t *testing.T, p *testkit.Proxy, _ redis.UniversalClient, key string) {
		ctx := t.Context()
		client := p.Client(t)
		if err := client.Ping(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		const delay = 100 * time.Millisecond
		p.Delay(delay)
		start := time.Now()
		_, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for range 50 {
				pipe.Incr(ctx, key)
			}
			return nil
		})
		// 50 replies one after the other would be 5 s.
		if took := time.Since(start); err != nil || took < delay || took > 20*delay {
			t.Errorf("a pipeline took %v, %v; want about %v", took, err, delay)
		}
		p.Heal()
		start = time.Now()
		if err := client.Ping(ctx).Err(); err != nil || time.Since(start) >= delay {
			t.Errorf("healed: took %v, %v; want less than %v", time.Since(start), err, delay)
		}
	})
}

func TestProxy_hang(t *testing.T) {
	t.Parallel()
	eachProxied(t, func(t *testing.T, p *testkit.Proxy, direct redis.UniversalClient, key string) {
		ctx := t.Context()
		old := p.Client(t, noRetry)
		if err := old.Set(ctx, key, "0", 0).Err(); err != nil {
			t.Fatal(err)
		}
		p.Hang()
		if err := old.Incr(ctx, key).Err(); !isTimeout(err) {
			t.Errorf("on a connection from before: got %v; want a timeout", err)
		}
		if err := p.Client(t, noRetry).Incr(ctx, key).Err(); !isTimeout(err) {
			t.Errorf("on a new connection: got %v; want a timeout", err)
		}
		if got := get(t, direct, key); got != "0" {
			t.Errorf("the server ran a command: got %q; want %q", got, "0")
		}
		p.Heal()
		if err := old.Incr(ctx, key).Err(); err != nil {
			t.Errorf("healed: %v", err)
		}
	})
}

// A reply that is under way when the network hangs is lost too.
func TestProxy_hangLosesDelayedReplies(t *testing.T) {
	t.Parallel()
	eachProxied(t, func(t *testing.T, p *testkit.Proxy, direct redis.UniversalClient, key string) {
		client := p.Client(t, noRetry, func(o *redis.Options) { o.ReadTimeout = time.Second })
		if err := client.Set(t.Context(), key, "0", 0).Err(); err != nil {
			t.Fatal(err)
		}
		p.Delay(500 * time.Millisecond)
		failed := make(chan error, 1)
		go func() { failed <- client.Incr(context.Background(), key).Err() }()
		testkit.Eventually(t, "the server to run the command", func() bool { return get(t, direct, key) == "1" })
		p.Hang()
		if err := <-failed; !isTimeout(err) {
			t.Errorf("got %v; want a timeout", err)
		}
	})
}

func TestProxy_cut(t *testing.T) {
	t.Parallel()
	eachProxied(t, func(t *testing.T, p *testkit.Proxy, _ redis.UniversalClient, _ string) {
		sub := p.Client(t).Subscribe(t.Context(), "channel")
		defer sub.Close()
		if _, err := sub.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.Cut()
		if _, err := sub.ReceiveTimeout(t.Context(), 5*time.Second); err == nil || isTimeout(err) {
			t.Errorf("got %v; want the end of the connection", err)
		}
		if err := p.Client(t, noRetry).Ping(t.Context()).Err(); err != nil {
			t.Errorf("a new connection: %v", err)
		}
	})
}

func TestProxy_refuse(t *testing.T) {
	t.Parallel()
	eachProxied(t, func(t *testing.T, p *testkit.Proxy, _ redis.UniversalClient, _ string) {
		old := p.Client(t, noRetry)
		if err := old.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		p.Refuse()
		p.Refuse() // once more changes nothing
		if !refuses(p.Addr()) {
			t.Error("accepts; want refused")
		}
		if err := old.Ping(t.Context()).Err(); err != nil {
			t.Errorf("a connection from before: %v; want it to go on", err)
		}
		p.Heal()
		if err := p.Client(t, noRetry).Ping(t.Context()).Err(); err != nil {
			t.Errorf("healed: %v", err)
		}
	})
}

func TestProxy_serverIsNotThere(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, testkit.RefusedAddr(t))
	if err := p.Client(t, noRetry).Ping(t.Context()).Err(); err == nil || isTimeout(err) {
		t.Errorf("got %v; want the end of the connection", err)
	}
}

func TestProxy_passesMessages(t *testing.T) {
	t.Parallel()
	for _, protocol := range []int{2, 3} {
		eachProxied(t, func(t *testing.T, p *testkit.Proxy, direct redis.UniversalClient, key string) {
			client := p.Client(t, func(o *redis.Options) { o.Protocol = protocol })
			sub := client.Subscribe(t.Context(), key)
			defer sub.Close()
			if _, err := sub.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := direct.Publish(t.Context(), key, "hello").Err(); err != nil {
				t.Fatal(err)
			}
			got, err := sub.ReceiveMessage(t.Context())
			if err != nil || got.Payload != "hello" {
				t.Errorf("RESP%d: got %v, %v; want hello", protocol, got, err)
			}
		})
	}
}

// Faults come and go while clients work: nothing may race, block or leak.
func TestProxy_underFire(t *testing.T) {
	t.Parallel()
	eachProxied(t, func(t *testing.T, p *testkit.Proxy, _ redis.UniversalClient, key string) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 4 {
			client := p.Client(t, func(o *redis.Options) {
				o.ReadTimeout, o.MaxRetries, o.DialerRetries = 5*time.Millisecond, -1, 1
			})
			wg.Go(func() {
				for ctx.Err() == nil {
					client.Incr(ctx, key) // failing is what it is for
				}
			})
		}
		for range 20 {
			for _, fault := range []func(){
				func() { p.Delay(time.Millisecond) },
				p.Hang,
				p.Cut,
				p.Refuse,
				func() { p.SwallowReply(2, "", testkit.ThenSilence) },
				func() { p.SwallowReply(2, "", testkit.ThenClose) },
			} {
				fault()
				p.Heal()
			}
		}
		cancel()
		wg.Wait()
		if err := p.Client(t).Ping(t.Context()).Err(); err != nil {
			t.Errorf("healed: %v", err)
		}
	})
}

func TestBackend_proxiedClient(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) { proxied(t, b, max(1, len(b.Nodes()))) })
	t.Run("sentinel", func(t *testing.T) { proxied(t, testkit.Shared(t, "sentinel"), 3) })
}

func proxied(t *testing.T, b *testkit.Backend, nodes int) {
	ctx := t.Context()
	client, proxies := b.ProxiedClient(t, noRetryUniversal, func(o *redis.UniversalOptions) {
		o.MaxRedirects = -1
		o.ReadTimeout = 5 * time.Second
	})
	if len(proxies) != nodes {
		t.Fatalf("got %d proxies; want %d", len(proxies), nodes)
	}
	answers(t, b, client)
	key := b.Prefix(t)
	if err := client.Set(ctx, key, "0", time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	proxies.Each((*testkit.Proxy).Reset)
	proxies.Each(func(p *testkit.Proxy) { p.SwallowReply(-1, "incr", testkit.ThenClose) })
	if err := client.Incr(ctx, key).Err(); err == nil {
		t.Error("got no error; want the reply swallowed")
	}
	if got := get(t, b.Client(t), key); got != "1" {
		t.Errorf("got %q; want %q: run once", got, "1")
	}
	// A sentinel's client may have asked the sentinel for its master meanwhile.
	if c, s := proxies.Commands(), proxies.Swallowed(); b.Name() != "sentinel" && c != 1 || s != 1 || proxies.RoundTrips() < 1 {
		t.Errorf("got %d commands, %d swallowed, %d trips; want 1 each", c, s, proxies.RoundTrips())
	}
}

func TestRefusedAddr_refuses(t *testing.T) {
	t.Parallel()
	addr := testkit.RefusedAddr(t)
	if !refuses(addr) {
		t.Errorf("%s accepts", addr)
	}
	if ln, err := net.Listen("tcp", addr); err == nil {
		ln.Close()
		t.Errorf("%s can be listened on; want it held", addr)
	}
}

func TestHungServer_isSilent(t *testing.T) {
	t.Parallel()
	var addr string
	t.Run("owner", func(t *testing.T) {
		addr = testkit.HungServer(t)
		client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, ReadTimeout: 50 * time.Millisecond})
		defer client.Close()
		if err := client.Ping(t.Context()).Err(); !isTimeout(err) {
			t.Errorf("got %v; want a timeout", err)
		}
	})
	if !refuses(addr) {
		t.Error("accepts after its test; want refused")
	}
}
