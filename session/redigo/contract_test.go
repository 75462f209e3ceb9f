package redigo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/scs/redisstore"
	redis "github.com/gomodule/redigo/redis"
	goredis "github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session/redigo"
)

// scs/redisstore does on the adapter, on any deployment, what it does on sockets.
func TestPool_redisstore_contract(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		client, prefix := b.Client(t), b.Prefix(t)+":"
		store := redisstore.NewWithPrefix(newPool(t, client), prefix)
		find := func(token string, want []byte) {
			t.Helper()
			got, found, err := store.Find(token)
			if err != nil || found != (want != nil) || !bytes.Equal(got, want) {
				t.Errorf("find %s: got %q, %v, %v; want %q", token, got, found, err, want)
			}
		}

		find("a", nil)
		if all, err := store.All(); err != nil || all == nil || len(all) != 0 {
			t.Errorf("all of none: got %v, %v; want an empty map", all, err)
		}
		// Enough tokens that every master of a cluster has some.
		want := make(map[string][]byte)
		expiry := time.Now().Add(time.Hour)
		for i := range 40 {
			token, data := fmt.Sprint("token", i), fmt.Appendf(nil, "\x00\xff\r\n%d", i)
			want[token] = data
			if err := store.Commit(token, data, expiry); err != nil {
				t.Fatal(err)
			}
			find(token, data)
		}
		if ttl := client.PTTL(t.Context(), prefix+"token7").Val(); ttl < 59*time.Minute || ttl > time.Hour {
			t.Errorf("pttl: got %v; want an hour", ttl)
		}
		if got, err := client.Get(t.Context(), prefix+"token7").Bytes(); err != nil || !bytes.Equal(got, want["token7"]) {
			t.Errorf("in Redis: got %q, %v; want %q", got, err, want["token7"])
		}
		if all, err := store.All(); err != nil || !reflect.DeepEqual(all, want) {
			t.Errorf("all: got %d, %v; want %d", len(all), err, len(want))
		}
		if err := store.Delete("token7"); err != nil {
			t.Error(err)
		}
		find("token7", nil)
		if err := store.Commit("token8", []byte("x"), time.Now().Add(-time.Second)); err != nil {
			t.Error(err)
		}
		find("token8", nil)
	})
}

func TestConn_contract(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		client, prefix := b.Client(t), b.Prefix(t)
		_, isCluster := client.(*goredis.ClusterClient)
		conn := newPool(t, client).Get()
		defer conn.Close()
		do := func(want any, name string, args ...any) {
			t.Helper()
			if got, err := conn.Do(name, args...); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s %v: got %s, %v; want %s", name, args, show(got), err, show(want))
			}
		}

		// A pipeline, on a cluster to all masters, with a keyless command and KEYS.
		var keys []string
		for i := range 20 {
			keys = append(keys, fmt.Sprintf("%s:k%02d", prefix, i))
			_ = conn.Send("SET", keys[i], i, "PX", 60000)
			_ = conn.Send("INCR", keys[i])
		}
		_ = conn.Send("PING")
		_ = conn.Send("KEYS", prefix+":k*")
		_ = conn.Send("GET", prefix+":none")
		if err := conn.Flush(); err != nil {
			t.Fatal(err)
		}
		for i := range keys {
			if ok, err := conn.Receive(); ok != "OK" || err != nil {
				t.Fatalf("SET %d: got %v, %v", i, ok, err)
			}
			if n, err := conn.Receive(); n != int64(i+1) || err != nil {
				t.Fatalf("INCR %d: got %v, %v; want %d", i, n, err, i+1)
			}
		}
		if pong, err := redis.String(conn.Receive()); pong != "PONG" || err != nil {
			t.Errorf("PING: got %v, %v", pong, err)
		}
		found, err := redis.Strings(conn.Receive())
		slices.Sort(found)
		if err != nil || !slices.Equal(found, keys) {
			t.Errorf("KEYS: got %q, %v; want %q", found, err, keys)
		}
		if none, err := redis.String(conn.Receive()); err != redis.ErrNil {
			t.Errorf("GET of none: got %v, %v; want %v", none, err, redis.ErrNil)
		}

		// Keyless commands.
		do("PONG", "PING")
		do([]byte("hello"), "ECHO", "hello")
		if now, err := redis.Int64s(conn.Do("TIME")); err != nil || len(now) != 2 {
			t.Errorf("TIME: got %v, %v", now, err)
		}
		if n, err := redis.Int(conn.Do("DBSIZE")); err != nil || n < len(keys) {
			t.Errorf("DBSIZE: got %d, %v; want at least the %d of all masters", n, err, len(keys))
		}

		// A script, known to no server at first.
		script := redis.NewScript(1, "-- "+prefix+"\nreturn redis.call('GET', KEYS[1])")
		if got, err := redis.String(script.Do(conn, keys[4])); err != nil || got != "5" {
			t.Errorf("script: got %q, %v; want 5", got, err)
		}

		// A transaction.
		tagged := "{" + prefix + "}:"
		do("OK", "MULTI")
		do("QUEUED", "SET", tagged+"a", 1, "PX", 60000)
		do("QUEUED", "INCR", tagged+"a")
		do("QUEUED", "GET", tagged+"b")
		do([]any{"OK", int64(2), nil}, "EXEC")
		// Across slots it is refused, and nothing of it done.
		if isCluster {
			_ = conn.Send("MULTI")
			for _, key := range keys {
				_ = conn.Send("DEL", key)
			}
			_, err := conn.Do("EXEC")
			var e redis.Error
			if !errors.As(err, &e) || !strings.Contains(string(e), "hash tag") {
				t.Errorf("across slots: got %v; want CROSSSLOT and what to do", err)
			}
			do([]byte("1"), "GET", keys[0])
		}

		// SCAN, where a cursor means something.
		_, err = redis.Values(conn.Do("SCAN", 0, "MATCH", prefix+":k*"))
		if isCluster != (err != nil && strings.Contains(err.Error(), "use KEYS")) {
			t.Errorf("SCAN: got %v; want an error only on a cluster", err)
		}

		// Errors have both their kind and redigo's type.
		_, err = conn.Do("LPUSH", keys[0], "x")
		var e redis.Error
		if !errors.As(err, &e) || !strings.HasPrefix(string(e), "WRONGTYPE") || !errors.Is(err, redigo.ErrCorrupt) || err.Error() != string(e) {
			t.Errorf("another type: got %v; want a redis.Error that is ErrCorrupt", err)
		}
		if _, err := conn.Do("INCRBY", keys[0]); err == nil {
			t.Error("too few arguments: got no error")
		} else if _, ok := err.(redis.Error); !ok {
			t.Errorf("too few arguments: got %T; want redis.Error itself, for code that asserts it", err)
		}
	})
}

// The keys of a Ring lie apart, and no server knows: the adapter must.
func TestConn_ring(t *testing.T) {
	t.Parallel()
	one, two := testkit.Mini(t), testkit.Mini(t)
	ring := goredis.NewRing(&goredis.RingOptions{Addrs: map[string]string{"one": one.Addrs()[0], "two": two.Addrs()[0]}})
	t.Cleanup(func() { ring.Close() })
	conn := newPool(t, ring).Get()
	defer conn.Close()
	for i := range 20 {
		if _, err := conn.Do("SET", fmt.Sprint("k", i), i); err != nil {
			t.Fatal(err)
		}
	}
	if keys, err := redis.Strings(conn.Do("KEYS", "k*")); err != nil || len(keys) != 20 {
		t.Errorf("KEYS: got %d, %v; want 20", len(keys), err)
	}
	if n, err := redis.Int(conn.Do("DBSIZE")); err != nil || n != 20 {
		t.Errorf("DBSIZE: got %d, %v; want 20", n, err)
	}
	// Red when a Ring's transaction is not checked: go-redis makes one per shard.
	_ = conn.Send("MULTI")
	for i := range 20 {
		_ = conn.Send("DEL", fmt.Sprint("k", i))
	}
	if _, err := conn.Do("EXEC"); err == nil || !strings.Contains(err.Error(), "one shard") {
		t.Errorf("across shards: got %v; want a refusal", err)
	}
	_ = conn.Send("MULTI")
	_ = conn.Send("INCR", "{k1}a")
	_ = conn.Send("INCR", "{k1}b")
	if got, err := redis.Ints(conn.Do("EXEC")); err != nil || !slices.Equal(got, []int{1, 1}) {
		t.Errorf("on one shard: got %v, %v; want 1 and 1", got, err)
	}
	if _, err := conn.Do("FLUSHDB"); err != nil {
		t.Error(err)
	}
	if n := len(one.Miniredis().Keys()) + len(two.Miniredis().Keys()); n != 0 {
		t.Errorf("FLUSHDB left %d keys", n)
	}
}

// The pool opens no connection: all that a server sees are the client's.
func TestPool_noConnections(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	client := b.Client(t, func(o *goredis.UniversalOptions) { o.ClientName = "injected" })
	pool := newPool(t, client)
	store := redisstore.New(pool)
	done := make(chan error, 32)
	for i := range cap(done) {
		go func() {
			token := fmt.Sprint("t", i)
			err := store.Commit(token, []byte("x"), time.Now().Add(time.Minute))
			_, found, err2 := store.Find(token)
			if !found && err == nil && err2 == nil {
				err = errors.New("not found")
			}
			done <- errors.Join(err, err2)
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	list := b.Client(t, func(o *goredis.UniversalOptions) { o.ClientName = "observer" }).ClientList(t.Context()).Val()
	lines := strings.Split(strings.TrimSpace(list), "\n")
	for _, line := range lines {
		if !strings.Contains(line, " name=injected ") && !strings.Contains(line, " name=observer ") {
			t.Errorf("a connection of somebody else: %s", line)
		}
	}
	t.Logf("%d connections, all of the client and the observer", len(lines))

	if err := pool.Close(); err != nil {
		t.Error(err)
	}
	if err := client.Ping(context.Background()).Err(); err != nil {
		t.Errorf("after the pool's Close the client is dead: %v", err)
	}
	if err := pool.Get().Err(); err == nil {
		t.Error("Get of a closed pool: got no error")
	}
}
