package testkit_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/redis/go-redis/v9"
)

// The counter went up although the client was told nothing: this is what makes a
// retry count twice.
func TestProxy_swallowReply(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		then    testkit.Then
		timeout bool
	}{
		{"then close", testkit.ThenClose, false},
		{"then silence", testkit.ThenSilence, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			eachProxied(t, func(t *testing.T, p *testkit.Proxy, direct redis.UniversalClient, key string) {
				ctx := t.Context()
				p.SwallowReply(1, "incr", tt.then) // from the first connection on, handshake and all
				client := p.Client(t, noRetry)
				if err := client.Set(ctx, key, "0", 0).Err(); err != nil {
					t.Fatalf("SET, which does not match: %v", err)
				}
				err := client.Incr(ctx, key).Err()
				if err == nil || isTimeout(err) != tt.timeout {
					t.Errorf("got %v; want an error, a timeout: %t", err, tt.timeout)
				}
				if got := get(t, direct, key); got != "1" || p.Swallowed() != 1 {
					t.Errorf("got %q with %d swallowed; want %q with 1", got, p.Swallowed(), "1")
				}
				if got, err := client.Incr(ctx, key).Result(); err != nil || got != 2 {
					t.Errorf("the next: got %d, %v; want 2", got, err)
				}
				p.Reset()
				retrying := p.Client(t, func(o *redis.Options) { o.ReadTimeout = 200 * time.Millisecond })
				p.SwallowReply(1, "incr", tt.then)
				if got, err := retrying.Incr(ctx, key).Result(); err != nil || got != 4 {
					t.Errorf("with go-redis's retry: got %d, %v; want 4, counted twice", got, err)
				}
				if p.Commands() != 2 || p.RoundTrips() != 2 {
					t.Errorf("got %d commands in %d trips; want 2 in 2", p.Commands(), p.RoundTrips())
				}
			})
		})
	}
}

func TestProxy_swallowReplyOfPipeline(t *testing.T) {
	t.Parallel()
	for _, then := range []testkit.Then{testkit.ThenClose, testkit.ThenSilence} {
		eachProxied(t, func(t *testing.T, p *testkit.Proxy, direct redis.UniversalClient, key string) {
			ctx := t.Context()
			client := p.Client(t, noRetry)
			p.SwallowReply(1, key+":b", then)
			cmds, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
				for _, part := range []string{":a", ":b", ":c"} {
					pipe.Incr(ctx, key+part)
				}
				return nil
			})
			if err == nil {
				t.Error("got no error")
			}
			// The value only: go-redis gives the error to every command of a
			// pipeline, those that were answered too.
			for i, want := range []int64{1, 0, 0} {
				if got := cmds[i].(*redis.IntCmd).Val(); got != want {
					t.Errorf("reply %d: got %d; want %d", i, got, want)
				}
			}
			testkit.Eventually(t, "the server to run the whole pipeline", func() bool {
				return direct.Get(ctx, key+":c").Val() == "1"
			})
		})
	}
}

// The line that protects the rest of a pipeline is endReplies in lose: with the
// link closed whole, Redis fails to write a reply, and drops what it has not read
// yet. It reads ever more at a time, hence the length; the scripts make it late.
func TestProxy_swallowReplyOfLongPipeline(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	p := testkit.NewProxy(t, b.Addrs()[0])
	ctx, key := t.Context(), b.Prefix(t)
	p.SwallowReply(1, key+":a", testkit.ThenClose)
	_, err := p.Client(t, noRetry).Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Incr(ctx, key+":a")
		for range 40 {
			pipe.Set(ctx, key+":padding", strings.Repeat("x", 15_000), time.Minute)
			pipe.Eval(ctx, "for i = 1, 2000000 do end", nil)
		}
		pipe.Incr(ctx, key+":z")
		return nil
	})
	if err == nil {
		t.Error("got no error")
	}
	direct := b.Client(t)
	testkit.Eventually(t, "the server to run the whole pipeline", func() bool {
		return direct.Get(ctx, key+":z").Val() == "1"
	})
}

func TestProxy_swallowReplyUntilHealed(t *testing.T) {
	t.Parallel()
	eachProxied(t, func(t *testing.T, p *testkit.Proxy, direct redis.UniversalClient, key string) {
		client := p.Client(t, noRetry)
		p.SwallowReply(-1, "", testkit.ThenClose)
		for range 3 {
			if err := client.Incr(t.Context(), key).Err(); err == nil {
				t.Error("got no error")
			}
		}
		if got := get(t, direct, key); got != "3" || p.Swallowed() != 3 {
			t.Errorf("got %q with %d swallowed; want %q with 3", got, p.Swallowed(), "3")
		}
		p.Heal()
		if err := client.Incr(t.Context(), key).Err(); err != nil {
			t.Errorf("healed: %v", err)
		}
	})
}

// A push answers no command. The line that protects is the one on '>' in down:
// without it the invalidation is taken for the reply that is to be swallowed.
func TestProxy_pushesAreNoReplies(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	p := testkit.NewProxy(t, b.Addrs()[0])
	key := b.Prefix(t)
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p.SwallowReply(1, "echo", testkit.ThenClose)
	// Having read the key, the client is told that it changed, by itself.
	_, err = conn.Write([]byte("HELLO 3\r\nCLIENT TRACKING ON\r\nGET " + key + "\r\nINCR " + key + "\r\nECHO lost\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(got), ":1\r\n>2\r\n$10\r\ninvalidate\r\n") || strings.Contains(string(got), "lost") {
		t.Errorf("got %q, %v; want the invalidation, and no reply to ECHO", got, err)
	}
	if p.Commands() != 3 || p.RoundTrips() != 1 || p.Swallowed() != 1 {
		t.Errorf("got %d commands, %d trips, %d swallowed; want 3, 1, 1", p.Commands(), p.RoundTrips(), p.Swallowed())
	}
}
