package session_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/alexedwards/scs/redisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/gomodule/redigo/redis"

	"github.com/go-weir/weir/internal/testkit"
)

// newRedisstore returns scs/redisstore as its users mount it, over sockets of
// its own.
func newRedisstore(t *testing.T, b *testkit.Backend) *redisstore.RedisStore {
	pool := &redis.Pool{
		MaxIdle: 2,
		Dial:    func() (redis.Conn, error) { return redis.Dial("tcp", b.Addrs()[0]) },
	}
	t.Cleanup(func() { pool.Close() })
	return redisstore.New(pool)
}

// What one store writes is, byte for byte and under the same key, what the other
// writes, and expires at the same time.
func TestStore_likeRedisstore(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	rdb, ctx := b.Client(t), t.Context()
	ours := newStore(t, rdb)
	theirs := newRedisstore(t, b)
	token := b.Prefix(t)
	key := "scs:session:" + token
	t.Cleanup(func() { rdb.Del(context.Background(), key) })

	stores := map[string]scs.Store{"ours": ours, "theirs": theirs}
	expiry := time.Now().Add(90 * time.Minute)
	dumps := make(map[string]string)
	for name, s := range stores {
		begun := time.Now()
		if err := s.Commit(token, []byte("\x00data\xff"), expiry); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		dumps[name] = rdb.Dump(ctx, key).Val() // type, encoding and bytes
		// Ours is a duration and theirs an instant: they differ by the time that
		// the call took, and a rounding to milliseconds.
		ttl := rdb.PTTL(ctx, key).Val()
		if least, most := time.Until(expiry)-5*time.Millisecond, expiry.Sub(begun)+5*time.Millisecond; ttl < least || ttl > most {
			t.Errorf("%s: pttl: got %v; want %v to %v", name, ttl, least, most)
		}
		for reader, s := range stores {
			if got, found, err := s.Find(token); err != nil || !found || !bytes.Equal(got, []byte("\x00data\xff")) {
				t.Errorf("%s of %s: got %q, %v, %v", reader, name, got, found, err)
			}
		}
	}
	if dumps["ours"] != dumps["theirs"] || dumps["ours"] == "" {
		t.Errorf("dump: got %q and %q; want the same", dumps["ours"], dumps["theirs"])
	}
	for name, s := range stores {
		if err := s.Commit(token, []byte("x"), expiry); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(token, []byte("x"), time.Now().Add(-time.Second)); err != nil {
			t.Errorf("%s: past: %v", name, err)
		}
		if n := rdb.Exists(ctx, key).Val(); n != 0 {
			t.Errorf("%s: past: the key is there", name)
		}
	}
}

// A service that ran scs with redisstore and hashed tokens is moved to Weir, and
// back, with nobody logged out.
func TestManager_sharesWithRedisstore(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	ours := newManager(t, b.Client(t))
	theirs := scs.New()
	theirs.Store = newRedisstore(t, b)
	theirs.HashTokenInStore = true

	// Written there, read and changed here, read there.
	ctx, err := theirs.Load(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	theirs.Put(ctx, "user", "alice")
	token, _, err := theirs.Commit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	v := visit(ours, token)
	if got := ours.GetString(v, "user"); got != "alice" {
		t.Fatalf("ours of theirs: got %q; want alice", got)
	}
	ours.Put(v, "theme", "dark")
	if c, err := v.Commit(); err != nil || c != nil {
		t.Fatalf("commit: got %v, %v; want the same token", c, err)
	}
	if ctx, err = theirs.Load(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if theirs.GetString(ctx, "user") != "alice" || theirs.GetString(ctx, "theme") != "dark" {
		t.Errorf("theirs of ours: got keys %v", theirs.Keys(ctx))
	}
	if d := theirs.Deadline(ctx); !d.Equal(ours.Deadline(v)) {
		t.Errorf("deadline: got %v and %v; want the same", d, ours.Deadline(v))
	}

	// Written here, destroyed there.
	token = login(t, ours, "bob")
	if ctx, err = theirs.Load(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if got := theirs.GetString(ctx, "user"); got != "bob" {
		t.Fatalf("theirs of ours: got %q; want bob", got)
	}
	if err := theirs.Destroy(ctx); err != nil {
		t.Fatal(err)
	}
	if v := visit(ours, token); ours.GetString(v, "user") != "" {
		t.Error("destroyed there, alive here")
	}
}
