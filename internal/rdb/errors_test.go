package rdb_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/internal/testkit"
)

// A script whose own error mentions NOSCRIPT is known to the server, and has run.
// Red when isNoScript looks for the word anywhere: it then runs twice.
func TestExec_errorsThatMentionNoScript(t *testing.T) {
	b := testkit.Shared(t, "server")
	client := b.Client(t)
	conn, prefix := open(t, client, relaxed), b.Prefix(t)
	key := rdb.Key(prefix, "k", "counter")
	script := rdb.NewScript("redis.call('INCR', KEYS[1]) return redis.error_reply('ERR quota of NOSCRIPT is spent')")
	warm := script.Cmd(rdb.Key(prefix, "k", "warm"))
	_ = conn.Exec(t.Context(), warm) // teaches the server the script
	if err := conn.Exec(t.Context(), script.Cmd(key)); err == nil || errors.Is(err, rdb.ErrUnavailable) {
		t.Errorf("%v; want the script's own error", err)
	}
	if got := read(t, client, key); got != "1" {
		t.Errorf("ran %s times; want once", got)
	}
	// Red when run does not ask whether the command has a script at all: there
	// is none to send by its text.
	raw := rdb.NewCmd(key, "eval", "return redis.error_reply('NOSCRIPT as a proxy may say')", 1, key)
	if err := conn.Exec(t.Context(), raw); err == nil || errors.Is(err, rdb.ErrUnavailable) {
		t.Errorf("%v; want the server's error", err)
	}
}

// BUSY is a server that runs a long script; BUSYGROUP is an answer. Red when the
// prefix has no space behind it.
func TestExec_busyGroupIsAnAnswer(t *testing.T) {
	b := testkit.Shared(t, "server")
	conn, prefix := open(t, b.Client(t), relaxed), b.Prefix(t)
	key := rdb.Key(prefix, "k", "stream")
	create := func() error {
		return conn.Exec(t.Context(), rdb.NewCmd(key, "xgroup", "create", key, "g", "$", "mkstream"))
	}
	if err := create(); err != nil {
		t.Fatal(err)
	}
	if err := create(); err == nil || errors.Is(err, rdb.ErrUnavailable) || !strings.Contains(err.Error(), "BUSYGROUP") {
		t.Errorf("%v; want BUSYGROUP, of no kind", err)
	}
}

// The caller's own deadline is the caller's, also when the socket notices it
// first, and opens no breaker. Red without the look at parent.Deadline in
// classify, most of the time: it is a race of two timers.
func TestExec_callersDeadline(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, testkit.Mini(t).Addrs()[0])
	client := p.Client(t, func(o *redis.Options) { o.ContextTimeoutEnabled = true })
	conn := open(t, client, relaxed)
	if err := conn.Exec(t.Context(), rdb.NewCmd("k", "get", "k")); err != nil {
		t.Fatal(err)
	}
	p.Delay(time.Hour) // connections open as ever, and no reply comes
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 40 {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				if err := conn.Exec(ctx, rdb.NewCmd("k", "get", "k")); err != context.DeadlineExceeded {
					t.Errorf("%v; want context.DeadlineExceeded", err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
}

// An engine with too little time does not cut off those that have enough. Red
// when exec reports the lack of time as silence.
func TestExec_tinyBudgetHarmsNobody(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, testkit.Mini(t).Addrs()[0])
	client := p.Client(t)
	hasty, patient := open(t, client, 5*time.Millisecond), open(t, client, relaxed)
	if err := patient.Exec(t.Context(), rdb.NewCmd("k", "get", "k")); err != nil {
		t.Fatal(err)
	}
	p.Delay(100 * time.Millisecond)
	for range 2 * rdb.TripAfter {
		if err := hasty.Exec(t.Context(), rdb.NewCmd("k", "get", "k")); !errors.Is(err, rdb.ErrUnavailable) {
			t.Errorf("5 ms for a trip of 100 ms: %v; want ErrUnavailable", err)
		}
	}
	if err := patient.Exec(t.Context(), rdb.NewCmd("k", "get", "k")); err != nil {
		t.Errorf("the engine with enough time: %v", err)
	}
}

// A client that the user closed says so each time, and not that Redis is silent.
// Red without the case of redis.ErrClosed in outcomeOf.
func TestExec_closedClient(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: testkit.Mini(t).Addrs()[0]})
	conn := open(t, client, relaxed)
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range 2 * rdb.TripAfter {
		if err := conn.Exec(t.Context(), rdb.NewCmd("k", "get", "k")); !errors.Is(err, redis.ErrClosed) {
			t.Fatalf("call %d: %v; want redis.ErrClosed", i, err)
		}
	}
}

// A server that refuses at once costs no time, and yet is not asked again for the
// same request. Red when left does not look for its breaker.
func TestRemember_refusedAtOnce(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: testkit.RefusedAddr(t), DialerRetries: 1})
	t.Cleanup(func() { _ = client.Close() })
	conn := open(t, client, relaxed)
	err := conn.Exec(t.Context(), rdb.NewCmd("k", "get", "k"))
	if !errors.Is(err, rdb.ErrUnavailable) {
		t.Fatal(err)
	}
	again := conn.Exec(rdb.Remember(t.Context(), err), rdb.NewCmd("k", "get", "k"))
	if again == nil || !strings.Contains(again.Error(), "already silent") {
		t.Errorf("%v; want it not to be asked again", again)
	}
}

// Code of the user's that go-redis calls knows no deadline, whatever the client
// says of contexts. Red when newCore trusts ContextTimeoutEnabled alone.
func TestExec_slowCredentials(t *testing.T) {
	t.Parallel()
	const forgotten = 3 * time.Second // a failure, not a hang, without the line
	release := make(chan struct{})
	client := redis.NewClient(&redis.Options{
		Addr:                  testkit.Mini(t).Addrs()[0],
		ContextTimeoutEnabled: true,
		CredentialsProvider: func() (string, string) {
			select {
			case <-release:
			case <-time.After(forgotten):
			}
			return "", ""
		},
	})
	t.Cleanup(func() { _ = client.Close() })
	t.Cleanup(func() { close(release) })
	begun := time.Now()
	err := open(t, client, 50*time.Millisecond).Exec(t.Context(), rdb.NewCmd("k", "get", "k"))
	if took := time.Since(begun); took > time.Second || !errors.Is(err, rdb.ErrUnavailable) {
		t.Errorf("%v after %v; want ErrUnavailable within the budget", err, took)
	}
}

// NOSCRIPT that comes with the deadline leaves no time for the text: there is no
// verdict, and the caller's own deadline passes as it is. Red when run hands on what
// the server said.
func TestExec_noScriptAtTheDeadline(t *testing.T) {
	b := testkit.Shared(t, "server")
	client := b.Client(t, func(o *redis.UniversalOptions) { o.ContextTimeoutEnabled = true })
	client.AddHook(late{})
	conn, key := open(t, client, 100*time.Millisecond), rdb.Key(b.Prefix(t), "k", "late")
	script := rdb.NewScript("-- " + key + "\nreturn 1")
	if err := conn.Exec(t.Context(), script.Cmd(key)); !errors.Is(err, rdb.ErrUnavailable) {
		t.Errorf("%v; want ErrUnavailable", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := conn.Exec(ctx, script.Cmd(key)); err != context.DeadlineExceeded {
		t.Errorf("%v; want the caller's deadline", err)
	}
}

// late holds the replies to scripts back until the deadline.
type late struct{}

func (late) DialHook(next redis.DialHook) redis.DialHook { return next }

func (late) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == "evalsha" {
			<-ctx.Done()
		}
		return err
	}
}

func (late) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
