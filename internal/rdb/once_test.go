package rdb_test

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/internal/testkit"
)

// A command whose reply is lost runs once with a default client, which has three
// retries. Red when once.NoRetry returns false: the counter is then 2.
func TestExec_countedOnce(t *testing.T) {
	loss := map[string]testkit.Then{"connection cut": testkit.ThenClose, "silence": testkit.ThenSilence}
	for name, mode := range loss {
		for _, kind := range []string{"server", "cluster"} {
			t.Run(name+" "+kind, func(t *testing.T) {
				b := testkit.Shared(t, kind)
				client, proxies := b.ProxiedClient(t)
				conn, prefix := open(t, client, 200*time.Millisecond), b.Prefix(t)
				key := rdb.Key(prefix, "k", "counter")
				script := rdb.NewScript("return redis.call('INCR', KEYS[1])")
				warm(t, conn, script.Cmd(rdb.Key(prefix, "k", "warm")))

				for _, p := range proxies {
					p.SwallowReply(1, "evalsha", mode)
				}
				if err := conn.Exec(t.Context(), script.Cmd(key)); !errors.Is(err, rdb.ErrUnavailable) {
					t.Errorf("the lost reply: %v; want ErrUnavailable", err)
				}
				for _, p := range proxies {
					p.Heal()
				}
				if got := read(t, b.Client(t), key); got != "1" {
					t.Errorf("counted %s times; want once", got)
				}
			})
		}
	}
}

// A replayable script is asked again over a new connection, within the budget,
// and its request id makes the answer the first one.
func TestExec_replayedOnce(t *testing.T) {
	for _, kind := range []string{"server", "cluster"} {
		t.Run(kind, func(t *testing.T) {
			b := testkit.Shared(t, kind)
			client, proxies := b.ProxiedClient(t)
			conn, prefix := open(t, client, relaxed), b.Prefix(t)
			key := rdb.Key(prefix, "k", "counter")
			script := rdb.NewReplayableScript(`
				redis.call('SADD', KEYS[1], ARGV[1])
				return redis.call('SCARD', KEYS[1])`)
			warm(t, conn, script.Cmd(rdb.Key(prefix, "k", "warm"), "id"))

			for _, p := range proxies {
				p.SwallowReply(1, "evalsha", testkit.ThenClose)
			}
			cmd := script.Cmd(key, "id")
			if err := conn.Exec(t.Context(), cmd); err != nil || cmd.Int() != 1 {
				t.Errorf("= %d, %v; want 1, nil: the first run's answer", cmd.Int(), err)
			}
		})
	}
}

// warm gets connections, topology and script out of the way.
func warm(t *testing.T, conn *rdb.Conn, cmd *rdb.Cmd) {
	t.Helper()
	testkit.Eventually(t, "the first answer", func() bool { return conn.Exec(t.Context(), cmd) == nil })
}

func read(t *testing.T, client redis.UniversalClient, key string) string {
	t.Helper()
	got, err := client.Get(t.Context(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// A script that the server does not know, and whose connection breaks at the first
// attempt, has its verdict from the second; a third is not made.
//
// Red when the second attempt goes by EVALSHA.
func TestExec_brokenBeforeTheScriptIsKnown(t *testing.T) {
	b := testkit.Shared(t, "server")
	client, proxies := b.ProxiedClient(t)
	conn, prefix := open(t, client, relaxed), b.Prefix(t)
	key := rdb.Key(prefix, "k", "counter")
	warm(t, conn, rdb.NewCmd(key, "get", key))
	script := rdb.NewReplayableScript("return { redis.call('INCR', KEYS[1]), ARGV[1] } -- " + prefix)
	for _, p := range proxies {
		p.SwallowReply(1, "evalsha", testkit.ThenClose) // NOSCRIPT, but nobody hears
	}
	cmd := script.Cmd(key).Again("again")
	if err := conn.Exec(t.Context(), cmd); err != nil || len(cmd.Slice()) != 2 || cmd.Slice()[0] != int64(1) || cmd.Slice()[1] != "again" {
		t.Errorf("= %v, %v; want 1, again", cmd.Val(), err)
	}
}
