package redigo_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	redis "github.com/gomodule/redigo/redis"
	goredis "github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session/redigo"
)

// What needs a connection of its own is refused before it reaches a server, and says
// what to use.
func TestConn_refusals(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	p := testkit.NewProxy(t, b.Addrs()[0])
	conn := newPool(t, p.Client(t)).Get()
	defer conn.Close()
	for hint, commands := range map[string][]step{
		"use a script":            {line("WATCH", "k"), line("unwatch")},
		"use Subscribe":           {line("SUBSCRIBE", "c"), line("PSUBSCRIBE", "c*"), line("ssubscribe", "c"), line("UNSUBSCRIBE")},
		"redigo.Dial":             {line("MONITOR"), line("SYNC"), line("PSYNC", "?", -1)},
		"that does not block":     {line("BLPOP", "k", 0), line("BRPOP", "k", 0), line("BLMOVE", "k", "l", "LEFT", "LEFT", 0), line("BZPOPMIN", "k", 0), line("WAIT", 1, 0), line("XREAD", "BLOCK", 0, "STREAMS", "s", "$"), line("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "block", 0, "STREAMS", "s", ">")},
		"options of the go-redis": {line("SELECT", 1), line("AUTH", "x"), line("HELLO", 3), line("CLIENT", "REPLY", "OFF"), line("client", "tracking", "on"), line("QUIT"), line("RESET"), line("READONLY")},
	} {
		for _, s := range commands {
			reply, err := conn.Do(s[0].(string), s[1:]...)
			if e, ok := err.(redis.Error); !ok || reply != e || !strings.HasPrefix(string(e), "ERR ") || !strings.Contains(string(e), hint) {
				t.Errorf("%v: got %v, %v; want a redis.Error that says %q", s, reply, err, hint)
			}
			// In a transaction it spoils the whole.
			_ = conn.Send("MULTI")
			_ = conn.Send(s[0].(string), s[1:]...)
			_ = conn.Send("SET", "spoilt", 1)
			_ = conn.Send("EXEC")
			replies, err := redis.Values(conn.Do(""))
			if err != nil || len(replies) != 4 {
				t.Fatalf("%v in MULTI: got %v, %v", s, replies, err)
			}
			e, _ := replies[3].(redis.Error)
			if _, refused := replies[1].(redis.Error); !refused && s[0] != "unwatch" || !strings.HasPrefix(string(e), "EXECABORT") {
				t.Errorf("%v in MULTI: got %s; want it refused, and EXEC", s, show(replies))
			}
		}
	}
	_ = conn.Send("MULTI")
	_ = conn.Send("KEYS", "*")
	if _, err := conn.Do("EXEC"); err == nil || !strings.Contains(err.Error(), "before MULTI") {
		t.Errorf("KEYS in MULTI: got %v", err)
	}
	if got := p.Commands(); got != 0 {
		t.Errorf("the server saw %d commands; want none", got)
	}
	// Words that only look like it.
	for _, s := range []step{line("XADD", "block", "*", "block", "1"), line("XREAD", "STREAMS", "block", "0"), line("HSET", "h", "BLOCK", "1")} {
		if _, err := conn.Do(s[0].(string), s[1:]...); err != nil {
			t.Errorf("%v: %v", s, err)
		}
	}
}

// A pipeline is one round trip, a transaction another.
func TestConn_roundTrips(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, testkit.Server(t).Addrs()[0])
	conn := newPool(t, p.Client(t)).Get()
	defer conn.Close()
	for name, sends := range map[string][]step{
		"pipeline":    {line("SET", "a", 1), line("INCR", "a"), line("PING"), line("GET", "a"), line("NOSUCH")},
		"transaction": {line("MULTI"), line("SET", "a", 1), line("INCR", "a"), line("EXEC")},
	} {
		if _, err := conn.Do("PING"); err != nil {
			t.Fatal(err)
		}
		p.Reset()
		for _, s := range sends {
			_ = conn.Send(s[0].(string), s[1:]...)
		}
		if got := p.Commands(); got != 0 {
			t.Errorf("%s: %d commands left before Flush", name, got)
		}
		replies, err := redis.Values(conn.Do(""))
		if err != nil || len(replies) != len(sends) || p.RoundTrips() != 1 || p.Commands() != len(sends) {
			t.Errorf("%s: got %s, %v in %d trips of %d commands; want one trip", name, show(replies), err, p.RoundTrips(), p.Commands())
		}
	}
}

// The caller's bytes are its own again when Send has returned, as with redigo. Red
// when newCall keeps them.
func TestConn_Send_copies(t *testing.T) {
	t.Parallel()
	conn := newPool(t, testkit.Mini(t).Client(t)).Get()
	defer conn.Close()
	key, value := []byte("key"), []byte("value")
	_ = conn.Send("SET", key, value)
	copy(key, "xxx")
	copy(value, "xxxxx")
	if _, err := conn.Do(""); err != nil {
		t.Fatal(err)
	}
	if got, err := redis.String(conn.Do("GET", "key")); got != "value" || err != nil {
		t.Errorf("got %q, %v; want value", got, err)
	}
}

// A command whose reply was lost is not sent again. Red when a plan is Replayable.
func TestConn_countedOnce(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	p := testkit.NewProxy(t, b.Addrs()[0])
	conn := newPool(t, p.Client(t)).Get()
	defer conn.Close()
	for i, how := range []testkit.Then{testkit.ThenClose, testkit.ThenClose} {
		p.SwallowReply(1, "incr", how)
		if _, err := conn.Do("INCR", "n"); !errors.Is(err, redigo.ErrUnavailable) {
			t.Errorf("got %v; want ErrUnavailable", err)
		}
		if got := b.Client(t).Get(t.Context(), "n").Val(); got != string(rune('1'+i)) {
			t.Errorf("after %d INCR: got %s", i+1, got)
		}
	}
	p.SwallowReply(1, "exec", testkit.ThenClose)
	_ = conn.Send("MULTI")
	_ = conn.Send("INCR", "n")
	if _, err := conn.Do("EXEC"); !errors.Is(err, redigo.ErrUnavailable) {
		t.Errorf("EXEC: got %v; want ErrUnavailable", err)
	}
	if got := b.Client(t).Get(t.Context(), "n").Val(); got != "3" {
		t.Errorf("after a lost EXEC: got %s; want 3", got)
	}
}

// A call takes its budget, and so do several: what follows a silence is not tried.
func TestConn_hung(t *testing.T) {
	t.Parallel()
	const budget = 100 * time.Millisecond
	const slack = 50 * time.Millisecond
	hung := goredis.NewClient(&goredis.Options{Addr: testkit.HungServer(t)})
	t.Cleanup(func() { hung.Close() })
	cluster := goredis.NewClusterClient(&goredis.ClusterOptions{Addrs: []string{testkit.HungServer(t)}})
	t.Cleanup(func() { cluster.Close() })
	for name, client := range map[string]goredis.UniversalClient{"client": hung, "cluster": cluster} {
		for what, steps := range map[string][]step{
			"get":         {line("GET", "k")},
			"keys":        {line("KEYS", "*")},
			"ping":        {line("PING")},
			"all":         {line("send:GET", "k"), line("")},
			"steps":       {line("send:GET", "k"), line("send:KEYS", "*"), line("send:MULTI"), line("send:GET", "k"), line("send:EXEC"), line("GET", "k")},
			"transaction": {line("send:MULTI"), line("send:SET", "k", "v"), line("send:PEXPIREAT", "k", 1), line("EXEC")},
		} {
			conn := newPool(t, client, redigo.WithTimeout(budget)).Get()
			begun := time.Now()
			var err error
			for _, s := range steps {
				if name, sent := strings.CutPrefix(s[0].(string), "send:"); sent {
					_ = conn.Send(name, s[1:]...)
				} else {
					_, err = conn.Do(name, s[1:]...)
				}
			}
			if took := time.Since(begun); !errors.Is(err, redigo.ErrUnavailable) || !strings.HasPrefix(err.Error(), "redigo: ") || took > budget+slack {
				t.Errorf("%s, %s: got %v after %v; want ErrUnavailable within %v", name, what, err, took, budget)
			}
			conn.Close()
		}
		// Five silences were enough to open the breaker.
		conn := newPool(t, client, redigo.WithTimeout(budget)).Get()
		begun := time.Now()
		_, err := conn.Do("GET", "k")
		if took := time.Since(begun); !errors.Is(err, redigo.ErrUnavailable) || took > budget/2 {
			t.Errorf("%s: breaker: got %v after %v; want ErrUnavailable at once", name, err, took)
		}
		conn.Close()
	}
}

// A Conn outlives an outage, as there is no connection in it.
func TestConn_outage(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	pool := newPool(t, b.Client(t), redigo.WithTimeout(200*time.Millisecond))
	conn := pool.Get()
	defer conn.Close()
	for name, fault := range map[string]struct{ begin, end func() }{
		"hung":   {b.Pause, b.Resume},
		"killed": {b.Kill, func() { b.Restart(t) }},
	} {
		testkit.Eventually(t, name+": a PING", func() bool { _, err := conn.Do("PING"); return err == nil })
		fault.begin()
		_ = conn.Send("SET", "k", 1)
		begun := time.Now()
		err := conn.Flush()
		if took := time.Since(begun); !errors.Is(err, redigo.ErrUnavailable) || took > 300*time.Millisecond {
			t.Errorf("%s: flush: got %v after %v; want ErrUnavailable", name, err, took)
		}
		if _, err := conn.Receive(); !errors.Is(err, redigo.ErrUnavailable) {
			t.Errorf("%s: receive: got %v; want ErrUnavailable", name, err)
		}
		if err := conn.Err(); err != nil {
			t.Errorf("%s: Err: got %v; want nil", name, err)
		}
		fault.end()
		testkit.Eventually(t, name+": a PING after it", func() bool { _, err := conn.Do("PING"); return err == nil })
		if all, err := conn.Do(""); err != nil || all != nil {
			t.Errorf("%s: replies left over: %v, %v", name, all, err)
		}
	}
}

// A call may bring a budget of its own, longer or shorter.
func TestConn_DoWithTimeout(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, testkit.Mini(t).Addrs()[0])
	client := p.Client(t)
	impatient, relaxed := newPool(t, client, redigo.WithTimeout(20*time.Millisecond)).Get(), newPool(t, client).Get()
	defer impatient.Close()
	defer relaxed.Close()
	if _, err := relaxed.Do("PING"); err != nil {
		t.Fatal(err)
	}
	p.Delay(150 * time.Millisecond)
	if _, err := impatient.Do("PING"); !errors.Is(err, redigo.ErrUnavailable) {
		t.Errorf("the pool's: got %v; want ErrUnavailable", err)
	}
	if _, err := redis.DoWithTimeout(impatient, 10*time.Second, "PING"); err != nil {
		t.Errorf("longer: %v", err)
	}
	if _, err := redis.DoWithTimeout(relaxed, 20*time.Millisecond, "PING"); !errors.Is(err, redigo.ErrUnavailable) {
		t.Errorf("shorter: got %v; want ErrUnavailable", err)
	}
	if _, err := redis.DoWithTimeout(relaxed, 0, "PING"); err != nil {
		t.Errorf("0: %v", err)
	}
	if _, err := redis.DoWithTimeout(impatient, time.Hour, "PING"); err != nil {
		t.Errorf("beyond the bounds: %v", err)
	}
	if _, err := redis.DoWithTimeout(relaxed, -1, "PING"); !errors.Is(err, redigo.ErrUnavailable) {
		t.Errorf("negative: got %v; want ErrUnavailable", err)
	}
	_ = relaxed.Send("PING")
	_ = relaxed.Flush()
	if pong, err := redis.ReceiveWithTimeout(relaxed, time.Millisecond); pong != "PONG" || err != nil {
		t.Errorf("receive: got %v, %v; want PONG", pong, err)
	}
}

// The client's end is no silence.
func TestConn_closedClient(t *testing.T) {
	t.Parallel()
	client := testkit.Mini(t).Client(t)
	conn := newPool(t, client).Get()
	defer conn.Close()
	client.Close()
	if _, err := conn.Do("GET", "k"); !errors.Is(err, goredis.ErrClosed) {
		t.Errorf("got %v; want %v", err, goredis.ErrClosed)
	}
}

// SCAN may give a key twice, KEYS does not. Red when keys does not remember them.
func TestConn_keysOnce(t *testing.T) {
	t.Parallel()
	client := testkit.Mini(t).Client(t)
	client.AddHook(twice{})
	conn := newPool(t, client).Get()
	defer conn.Close()
	if keys, err := redis.Strings(conn.Do("KEYS", "*")); err != nil || !slices.Equal(keys, []string{"a", "b"}) {
		t.Errorf("got %q, %v; want a and b, once each", keys, err)
	}
}

// twice is a hook that answers a SCAN with keys that come again.
type twice struct{}

func (twice) DialHook(next goredis.DialHook) goredis.DialHook { return next }
func (twice) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}
func (twice) ProcessHook(goredis.ProcessHook) goredis.ProcessHook {
	return func(_ context.Context, cmd goredis.Cmder) error {
		next := "0"
		if cmd.Args()[1] == "0" {
			next = "7"
		}
		cmd.(interface{ SetVal(any) }).SetVal([]any{next, []any{"a", "b", "a"}})
		return nil
	}
}
