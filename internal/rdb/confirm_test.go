package rdb_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/internal/testkit"
)

// WAIT knows the writes of its own connection only: on another it returns at once, and
// says nothing.
//
// Red when Confirm sends WAIT by an Exec of its own: the replica is stopped, and yet
// confirms.
func TestConn_confirm(t *testing.T) {
	t.Parallel()
	b := testkit.Sentinel(t)
	conn, err := rdb.Open(b.Client(t), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	// On a busy machine the replica may be away for a moment: each try is with another
	// script, which the server does not know. Both commands are then sent again, in
	// their order.
	var set *rdb.Script
	tries := 0
	testkit.Eventually(t, "the replica's confirmation", func() bool {
		tries++
		set = rdb.NewReplayableScript(fmt.Sprintf("return redis.call('SET', KEYS[1], ARGV[1] .. %d)", tries))
		cmd := set.Cmd("a", "1")
		n, err := conn.Confirm(t.Context(), cmd, 1, time.Second)
		if got, _ := cmd.Text(); got != "OK" || err != nil {
			t.Fatalf("the script's reply: %v, %v; want OK", cmd.Val(), err)
		}
		return n == 1
	})
	testkit.Eventually(t, "one of two replicas", func() bool {
		n, err := conn.Confirm(t.Context(), set.Cmd("a", "2"), 2, 50*time.Millisecond)
		return n == 1 && err == nil
	})
	b.Nodes()[1].Pause()
	defer b.Nodes()[1].Resume()
	for range 5 {
		if n, err := conn.Confirm(t.Context(), set.Cmd("a", "3"), 1, 50*time.Millisecond); n != 0 || err != nil {
			t.Errorf("with a stopped replica: %d, %v; want none", n, err)
		}
	}
}

func TestConn_confirmOnEach(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		client := b.Client(t)
		conn, err := rdb.Open(client, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"a", "b", "c", "d", "e"} {
			key := rdb.Key(b.Prefix(t), "confirm", id)
			n, err := conn.Confirm(t.Context(), rdb.NewCmd(key, "set", key, "1", "px", 60000), 1, 10*time.Millisecond)
			if n != 0 || err != nil {
				t.Errorf("%s: got %d, %v; want no replica", id, n, err)
			}
			if got := client.Get(t.Context(), key).Val(); got != "1" {
				t.Errorf("%s: the key is %q", id, got)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := conn.Confirm(ctx, rdb.NewCmd("a", "get", "a"), 1, time.Second); err != context.Canceled {
			t.Errorf("got %v; want context.Canceled", err)
		}
	})
}

// Both go to the key's master, in one round trip: a Cluster would send WAIT, which has
// no key, to any.
//
// Red without manner.one.
func TestConn_confirmOneTrip(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "cluster3")
	client, proxies := b.ProxiedClient(t)
	conn, err := rdb.Open(client, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	prefix := b.Prefix(t)
	set := func(id string) *rdb.Cmd {
		key := rdb.Key(prefix, "confirm", id)
		return rdb.NewCmd(key, "set", key, "1", "px", 60000)
	}
	for _, id := range []string{"a", "b", "c", "d", "e", "f"} { // all masters are known
		if err := conn.Exec(t.Context(), set(id)); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"a", "b", "c", "d", "e", "f"} {
		proxies.Each((*testkit.Proxy).Reset)
		if _, err := conn.Confirm(t.Context(), set(id), 1, 5*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if trips, commands := proxies.RoundTrips(), proxies.Commands(); trips != 1 || commands != 2 {
			t.Errorf("%s: %d round trips, %d commands; want 1 and 2", id, trips, commands)
		}
	}
}

// A lost reply repeats both, if the first may be; a silent server ends both in time.
func TestConn_confirmLostReply(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	client, proxies := b.ProxiedClient(t)
	conn, err := rdb.Open(client, 500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	key := rdb.Key(b.Prefix(t), "confirm", "a")
	set := rdb.NewReplayableScript("return redis.call('SET', KEYS[1], ARGV[1], 'PX', 60000)").Cmd(key, "1")
	if err := conn.Exec(t.Context(), set); err != nil || set.Repeated() {
		t.Fatalf("%v, repeated %v", err, set.Repeated())
	}
	proxies[0].SwallowReply(1, "evalsha", testkit.ThenClose)
	if n, err := conn.Confirm(t.Context(), set, 1, 10*time.Millisecond); n != 0 || err != nil || proxies.Swallowed() != 1 {
		t.Errorf("got %d, %v, %d replies lost; want an answer after one", n, err, proxies.Swallowed())
	}
	if !set.Repeated() {
		t.Error("the command does not tell that it was sent twice")
	}
	proxies[0].Hang()
	begun := time.Now()
	if _, err := conn.Confirm(t.Context(), set, 1, 10*time.Millisecond); !errors.Is(err, rdb.ErrUnavailable) || time.Since(begun) > 10*time.Second {
		t.Errorf("%v after %v; want ErrUnavailable in time", err, time.Since(begun))
	}
}
