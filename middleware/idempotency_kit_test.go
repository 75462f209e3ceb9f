package middleware_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/idempotency"
	"github.com/go-weir/weir/internal/testkit"
)

// newOnce returns a Store on which a loaded machine's calls do not fail.
func newOnce(tb testing.TB, client redis.UniversalClient, prefix string, options ...idempotency.Option) *idempotency.Store {
	tb.Helper()
	s, err := idempotency.New(client, append([]idempotency.Option{idempotency.WithPrefix(prefix), idempotency.WithTimeout(20 * time.Second)}, options...)...)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// onMini is a Store of the test's own.
func onMini(t *testing.T, options ...idempotency.Option) *idempotency.Store {
	t.Helper()
	return newOnce(t, testkit.Mini(t).Client(t), "p", options...)
}

// payRequest is a POST of alice's, with a key unless it is empty, and fields "Name: value".
func payRequest(key, body string, fields ...string) *http.Request {
	r := httptest.NewRequest("POST", "/pay", strings.NewReader(body))
	r.Header.Set("X-User", "alice")
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Add(name, value)
	}
	return r
}

// payments counts how often it is asked, and says so.
type payments struct{ made atomic.Int64 }

func (p *payments) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, "payment %d of %s by %s", p.made.Add(1), body, r.Header.Get("X-User"))
}

// checkPaid fails t unless response is the first answer, again if so.
func checkPaid(t *testing.T, response *http.Response, want string, again bool) {
	t.Helper()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != 201 || string(body) != want {
		t.Errorf("%d %q, %v; want 201 %q", response.StatusCode, body, err, want)
	}
	if got := response.Header.Get("Idempotent-Replayed"); (got == "true") != again || !again && got != "" {
		t.Errorf("Idempotent-Replayed %q; want it %t", got, again)
	}
}
