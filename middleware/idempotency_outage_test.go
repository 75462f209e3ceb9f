package middleware_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/idempotency"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// Without Redis nothing is done for a request with a key, and all for one without.
func TestIdempotency_redisSilent(t *testing.T) {
	t.Parallel()
	for name, addr := range map[string]string{"hung": testkit.HungServer(t), "refused": testkit.RefusedAddr(t)} {
		client := redis.NewClient(&redis.Options{Addr: addr})
		t.Cleanup(func() { client.Close() })
		store, err := idempotency.New(client)
		if err != nil {
			t.Fatal(err)
		}
		next := new(payments)
		h := middleware.Idempotency(store, byUser)(next)
		for range 3 {
			begun := time.Now()
			response := answerTo(h, payRequest("k", "20"))
			checkProblem(t, response, 503)
			if took := time.Since(begun); response.Header.Get("Retry-After") == "" || took > 2*time.Second {
				t.Errorf("%s: after %v, Retry-After %q", name, took, response.Header.Get("Retry-After"))
			}
		}
		if next.made.Load() != 0 {
			t.Errorf("%s: %d payments", name, next.made.Load())
		}
		checkPaid(t, answerTo(h, payRequest("", "20")), "payment 1 of 20 by alice", false)
	}
}

// Redis falls silent while the handler runs: its client gets the answer, and nobody does
// the work again.
func TestIdempotency_finishFails(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	p := testkit.NewProxy(t, b.Addrs()[0])
	prefix := b.Prefix(t)
	next := new(payments)
	lease := idempotency.WithLease(200 * time.Millisecond)
	h := middleware.Idempotency(newOnce(t, p.Client(t), prefix, lease, idempotency.WithTimeout(500*time.Millisecond)), byUser)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.Hang()
		next.ServeHTTP(w, r)
	}))
	checkPaid(t, answerTo(h, payRequest("k", "20")), "payment 1 of 20 by alice", false)
	p.Refuse()
	direct := middleware.Idempotency(newOnce(t, b.Client(t), prefix, lease), byUser)(next)
	var response *http.Response
	testkit.Eventually(t, "the lease to end", func() bool {
		response = answerTo(direct, payRequest("k", "20"))
		return response.Header.Get("Retry-After") == ""
	})
	if p := checkProblem(t, response, 409); !strings.HasSuffix(p.Type, "#Interrupted") {
		t.Errorf("%+v", p)
	}
	if next.made.Load() != 1 {
		t.Errorf("%d payments; want 1", next.made.Load())
	}
}

// A reply that is lost changes nothing.
func TestIdempotency_replySwallowed(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	p := testkit.NewProxy(t, b.Addrs()[0])
	next := new(payments)
	h := middleware.Idempotency(newOnce(t, p.Client(t), b.Prefix(t)), byUser)(next)
	answerTo(h, payRequest("warm", ""))
	for n := range 3 {
		key := fmt.Sprint("k", n)
		p.SwallowReply(1+n%2, "evalsha", testkit.ThenClose)
		want := fmt.Sprintf("payment %d of 20 by alice", 2+n)
		checkPaid(t, answerTo(h, payRequest(key, "20")), want, false)
		checkPaid(t, answerTo(h, payRequest(key, "20")), want, true)
	}
}

// What stands under the key and is not ours is left alone, and nothing is done.
func TestIdempotency_corrupt(t *testing.T) {
	t.Parallel()
	client := testkit.Mini(t).Client(t)
	store := newOnce(t, client, "p")
	next := new(payments)
	h := middleware.Idempotency(store, byUser)(next)
	a, err := store.Reserve(t.Context(), middleware.IdempotencyKey("alice", "POST", "/pay", "k"), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Claim.Finish(t.Context(), []byte("no answer")), client.HSet(t.Context(), testkit.OnlyKey(t, client, "p"), "print", printOf(t, client, h)).Err()); err != nil {
		t.Fatal(err)
	}
	checkProblem(t, answerTo(h, payRequest("k", "20")), 500)
	client.Set(t.Context(), testkit.OnlyKey(t, client, "p"), "foreign", time.Hour)
	checkProblem(t, answerTo(h, payRequest("k", "20")), 500)
	if n := next.made.Load(); n != 1 { // that of printOf
		t.Errorf("%d payments; want none", n-1)
	}
}

// printOf is the fingerprint of a payment of 20.
func printOf(t *testing.T, client redis.UniversalClient, h http.Handler) string {
	t.Helper()
	answerTo(h, payRequest("other", "20"))
	for _, key := range testkit.Keys(t, client, "p") {
		if print := client.HGet(t.Context(), key, "print").Val(); print != "" {
			client.Del(t.Context(), key)
			return print
		}
	}
	t.Fatal("no record")
	return ""
}

// One round trip before the handler, one behind it, one for a replay.
func TestIdempotency_roundTrips(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	p := testkit.NewProxy(t, b.Addrs()[0])
	h := middleware.Idempotency(newOnce(t, p.Client(t), b.Prefix(t)), byUser)(new(payments))
	answerTo(h, payRequest("warm", ""))
	for _, want := range []int{2, 1} {
		p.Reset()
		_, _ = io.Copy(io.Discard, answerTo(h, payRequest("k", "20")).Body)
		if n := p.RoundTrips(); n != want {
			t.Errorf("%d round trips; want %d", n, want)
		}
	}
}
