package redigo_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	redis "github.com/gomodule/redigo/redis"
	goredis "github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session/redigo"
)

// patient is a budget that a busy machine does not exceed.
var patient = redigo.WithTimeout(10 * time.Second)

func newPool(t *testing.T, client goredis.UniversalClient, options ...redigo.Option) *redis.Pool {
	t.Helper()
	pool := redigo.Pool(client, append([]redigo.Option{patient}, options...)...)
	t.Cleanup(func() { pool.Close() })
	return pool
}

func TestPool_counts(t *testing.T) {
	t.Parallel()
	pool := newPool(t, testkit.Mini(t).Client(t))
	a, b := pool.Get(), pool.Get()
	if got := pool.ActiveCount(); got != 2 {
		t.Errorf("active: got %d; want 2", got)
	}
	a.Close()
	if s := pool.Stats(); s.ActiveCount != 2 || s.IdleCount != 1 {
		t.Errorf("stats: got %+v; want 2 active, 1 of them idle", s)
	}
	b.Close()
	if _, err := b.Do("PING"); err == nil {
		t.Error("Do on a closed Conn: got no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	c, err := pool.GetContext(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cancel() // is not the Conn's end, as redigo says
	if pong, err := c.Do("PING"); pong != "PONG" || err != nil {
		t.Errorf("PING: got %v, %v", pong, err)
	}
}

// What a Conn was left with does not reach its next owner.
func TestPool_cleanConns(t *testing.T) {
	t.Parallel()
	pool := newPool(t, testkit.Mini(t).Client(t))
	for _, leave := range []func(redis.Conn){
		func(c redis.Conn) { c.Do("MULTI"); c.Do("SET", "never", 1) },
		func(c redis.Conn) { c.Send("MULTI"); c.Send("SET", "never", 1) },
		func(c redis.Conn) { c.Send("GET", "x"); c.Flush() },
		func(c redis.Conn) { c.Do("WATCH", "x") },
		func(c redis.Conn) { c.Do("SUBSCRIBE", "x") },
		func(c redis.Conn) { c.Send("SUBSCRIBE", "x"); c.Flush() },
	} {
		c := pool.Get()
		leave(c)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		c = pool.Get()
		if got, err := c.Do("SET", "k", 1); got != "OK" || err != nil {
			t.Errorf("got %v, %v; want OK", got, err)
		}
		if got, err := c.Do("EXISTS", "never"); got != int64(0) || err != nil {
			t.Errorf("an unfinished transaction was run: got %v, %v", got, err)
		}
		c.Close()
	}
}

func TestPool_mistakes(t *testing.T) {
	t.Parallel()
	client := testkit.Mini(t).Client(t)
	for name, tc := range map[string]struct {
		make func()
		want []string
	}{
		"nil client": {func() { redigo.Pool(nil) }, []string{"client is nil"}},
		"unset":      {func() { redigo.Pool((*goredis.Client)(nil)) }, []string{"client is nil"}},
		"option":     {func() { redigo.Pool(client, nil) }, []string{"option 1 is nil"}},
		"short":      {func() { redigo.Pool(client, redigo.WithTimeout(0)) }, []string{"WithTimeout(0s)"}},
		"all":        {func() { redigo.Pool(nil, redigo.WithTimeout(time.Hour), nil) }, []string{"client is nil", "option 2 is nil", "WithTimeout(1h0m0s)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				err, ok := recover().(error)
				if !ok || !errors.Is(err, redigo.ErrConfig) {
					t.Fatalf("got %v; want a panic with an ErrConfig", err)
				}
				for _, want := range tc.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("got %v; want it to say %q", err, want)
					}
				}
				if got := strings.Count(err.Error(), "\n") + 1; got != len(tc.want) {
					t.Errorf("got %d lines; want %d: %v", got, len(tc.want), err)
				}
			}()
			tc.make()
		})
	}
}
