package rfc9111_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/rfc9111"
)

func TestReuse_section4(t *testing.T) {
	t.Parallel()
	const s = time.Second
	cc := func(v string) http.Header { return h("Cache-Control", v) }
	minute := rfc9111.Stored{Status: 200, ResponseTime: noon, Lifetime: time.Minute}
	with := func(f func(*rfc9111.Stored)) rfc9111.Stored {
		st := minute
		f(&st)
		return st
	}
	aged := with(func(st *rfc9111.Stored) { st.InitialAge = 30 * s })
	revalidate := with(func(st *rfc9111.Stored) { st.Revalidate = true })
	public := with(func(st *rfc9111.Stored) { st.Public = true })
	noCache := with(func(st *rfc9111.Stored) { st.NoCache = true })
	declared := with(func(st *rfc9111.Stored) { st.Declared = true })
	immutable := with(func(st *rfc9111.Stored) { st.Immutable = true })
	refreshing := with(func(st *rfc9111.Stored) { st.WhileRevalidate = 10 * s })
	both := with(func(st *rfc9111.Stored) { st.WhileRevalidate, st.Revalidate = 10*s, true })
	onError := with(func(st *rfc9111.Stored) { st.IfError = 10 * s })
	deaf := rfc9111.Policy{IgnoreRequest: true}
	tests := []struct {
		name   string
		policy rfc9111.Policy
		method string
		req    http.Header
		stored rfc9111.Stored
		after  time.Duration
		want   rfc9111.Verdict
	}{
		{"fresh", safe, "GET", nil, minute, 59 * s, rfc9111.Fresh},
		{"HEAD from a stored GET", safe, "HEAD", nil, minute, 0, rfc9111.Fresh},
		{"POST", safe, "POST", nil, minute, 0, rfc9111.MethodNotCached},
		{"at its lifetime, 4.2", safe, "GET", nil, minute, 60 * s, rfc9111.Stale},
		{"old on arrival", safe, "GET", nil, aged, 30 * s, rfc9111.Stale},
		{"a clock that went back", safe, "GET", nil, aged, -time.Hour, rfc9111.Fresh},
		{"the zero Stored", safe, "GET", nil, rfc9111.Stored{}, 0, rfc9111.Stale},

		{"response no-cache, 5.2.2.4", rfc, "GET", nil, noCache, 0, rfc9111.ResponseNoCache},
		{"no-cache, 5.2.1.4", safe, "GET", cc("no-cache"), minute, 0, rfc9111.RequestNoCache},
		{"no-cache on a stale one", safe, "GET", cc("no-cache"), minute, 60 * s, rfc9111.Stale},
		{"Pragma, 5.4", safe, "GET", h("Pragma", "no-cache"), minute, 0, rfc9111.RequestNoCache},
		{"no-store only forbids to store, 5.2.1.5", safe, "GET", cc("no-store"), minute, 0, rfc9111.Fresh},
		{"only-if-cached, 5.2.1.7", safe, "GET", cc("only-if-cached"), minute, 0, rfc9111.Fresh},

		{"max-age, 5.2.1.1", safe, "GET", cc("max-age=10"), minute, 10 * s, rfc9111.Fresh},
		{"max-age exceeded", safe, "GET", cc("max-age=10"), minute, 10*s + 1, rfc9111.RequestMaxAge},
		{"max-age=0", safe, "GET", cc("max-age=0"), minute, 1, rfc9111.RequestMaxAge},
		{"max-age against Age", safe, "GET", cc("max-age=10"), aged, 0, rfc9111.RequestMaxAge},
		{"max-age does not prolong", safe, "GET", cc("max-age=1000"), minute, 60 * s, rfc9111.Stale},
		{"max-age holds for a stale one too", safe, "GET", cc("max-age=10, max-stale"), minute, 70 * s, rfc9111.RequestMaxAge},
		{"max-age unreadable", safe, "GET", cc("max-age=x"), minute, s, rfc9111.Fresh},

		{"min-fresh, 5.2.1.3", safe, "GET", cc("min-fresh=20"), minute, 40 * s, rfc9111.Fresh},
		{"min-fresh not met", safe, "GET", cc("min-fresh=20"), minute, 41 * s, rfc9111.RequestMinFresh},

		{"max-stale, 5.2.1.2", safe, "GET", cc("max-stale=10"), minute, 70 * s, rfc9111.StaleAllowed},
		{"max-stale exceeded", safe, "GET", cc("max-stale=10"), minute, 71 * s, rfc9111.Stale},
		{"any staleness", safe, "GET", cc("max-stale"), minute, 100 * time.Hour, rfc9111.StaleAllowed},
		{"max-stale unreadable", safe, "GET", cc("max-stale=x"), minute, 61 * s, rfc9111.Stale},
		{"max-stale on a fresh one", safe, "GET", cc("max-stale"), minute, 0, rfc9111.Fresh},
		{"max-stale with min-fresh", safe, "GET", cc("max-stale, min-fresh=1"), minute, 61 * s, rfc9111.Stale},
		{"max-stale against must-revalidate, 4.2.4", rfc, "GET", cc("max-stale"), revalidate, 60 * s, rfc9111.Stale},
		{"max-stale against no-cache, 4.2.4", rfc, "GET", cc("max-stale"), noCache, 60 * s, rfc9111.ResponseNoCache},
		{"max-stale against the profile", safe, "GET", h("Cache-Control", "max-stale", "Cookie", "a=b"), minute, 60 * s, rfc9111.Credentials},
		{"must-revalidate while fresh", safe, "GET", nil, revalidate, 59 * s, rfc9111.Fresh},

		{"reload of an immutable one, RFC 8246 2", safe, "GET", cc("max-age=0"), immutable, s, rfc9111.Fresh},
		{"forced reload of an immutable one", safe, "GET", cc("no-cache"), immutable, s, rfc9111.RequestNoCache},
		{"an immutable one is stale in its time", safe, "GET", cc("max-age=0"), immutable, 60 * s, rfc9111.Stale},
		{"an immutable one served stale", safe, "GET", cc("max-age=0, max-stale"), immutable, 60 * s, rfc9111.RequestMaxAge},

		{"stale-while-revalidate, RFC 5861 3", safe, "GET", nil, refreshing, 69 * s, rfc9111.StaleRefreshing},
		{"after its window", safe, "GET", nil, refreshing, 70 * s, rfc9111.Stale},
		{"while fresh", safe, "GET", nil, refreshing, 59 * s, rfc9111.Fresh},
		{"max-stale before it", safe, "GET", cc("max-stale"), refreshing, 69 * s, rfc9111.StaleAllowed},
		{"declined by max-age", safe, "GET", cc("max-age=60"), refreshing, 69 * s, rfc9111.RequestMaxAge},
		{"declined by min-fresh", safe, "GET", cc("min-fresh=1"), refreshing, 69 * s, rfc9111.RequestMinFresh},
		{"must-revalidate over it, 4.2.4", safe, "GET", nil, both, 69 * s, rfc9111.Stale},
		{"stale-if-error is for errors", safe, "GET", nil, onError, 61 * s, rfc9111.Stale},

		{"Cookie, Safe", safe, "GET", h("Cookie", "a=b"), minute, 0, rfc9111.Credentials},
		{"Cookie, Safe, a declared lifetime", safe, "GET", h("Cookie", "a=b"), declared, 0, rfc9111.Fresh},
		{"Authorization, Safe, a declared lifetime", safe, "GET", h("Authorization", "x"), declared, 0, rfc9111.Credentials},
		{"Authorization, the rule lifted", rfc9111.Policy{Credentials: true}, "GET", h("Authorization", "x"), minute, 0, rfc9111.Fresh},
		{"Authorization, Safe", safe, "GET", h("Authorization", "x"), minute, 0, rfc9111.Credentials},
		{"Cookie, Safe, public", safe, "GET", h("Cookie", "a=b"), public, 0, rfc9111.Fresh},
		{"Cookie, RFC", rfc, "GET", h("Cookie", "a=b"), minute, 0, rfc9111.Fresh},
		{"Authorization, RFC", rfc, "GET", h("Authorization", "x"), minute, 0, rfc9111.Fresh},

		{"deaf to no-cache", deaf, "GET", cc("no-cache, max-age=0, min-fresh=99"), minute, s, rfc9111.Fresh},
		{"deaf to Pragma", deaf, "GET", h("Pragma", "no-cache"), minute, s, rfc9111.Fresh},
		{"deaf to max-stale", deaf, "GET", cc("max-stale"), minute, 60 * s, rfc9111.Stale},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := tt.policy.Reuse(rfc9111.NewRequest(tt.method, tt.req), tt.stored, noon.Add(tt.after))
			if got.Verdict != tt.want {
				t.Errorf("Reuse(%s %v, %+v) after %v: got %v; want %v", tt.method, tt.req, tt.stored, tt.after, got.Verdict, tt.want)
			}
			if age := tt.stored.InitialAge + max(0, tt.after); tt.stored.Lifetime > 0 && (got.Age != age || got.TTL != tt.stored.Lifetime-age) {
				t.Errorf("got age %v, ttl %v; want %v, %v", got.Age, got.TTL, age, tt.stored.Lifetime-age)
			}
			wantOK := slices.Contains(permits, tt.want)
			if got.OK() != wantOK {
				t.Errorf("OK: got %v; want %v", got.OK(), wantOK)
			}
		})
	}
}

func TestBypass(t *testing.T) {
	t.Parallel()
	req := func(method string, body io.Reader, pairs ...string) *http.Request {
		r := httptest.NewRequest(method, "/", body)
		r.Header = h(pairs...)
		return r
	}
	chunked := req("GET", nil)
	chunked.TransferEncoding = []string{"chunked"}
	tests := []struct {
		name string
		r    *http.Request
		want rfc9111.Verdict
	}{
		{"GET", req("GET", nil), 0},
		{"HEAD", req("HEAD", nil), 0},
		{"GET with preconditions of ours", req("GET", nil, "If-None-Match", `"a"`, "If-Modified-Since", "x"), 0},
		{"POST", req("POST", nil), rfc9111.MethodNotCached},
		{"GET with content", req("GET", strings.NewReader("x")), rfc9111.RequestBody},
		{"GET with content of unknown length", chunked, rfc9111.RequestBody},
		{"Range", req("GET", nil, "Range", "bytes=0-1"), 0},
		{"If-Match", req("GET", nil, "If-Match", "*"), rfc9111.RequestPrecondition},
		{"If-Unmodified-Since", req("GET", nil, "If-Unmodified-Since", "x"), rfc9111.RequestPrecondition},
		{"If-Range", req("GET", nil, "If-Range", `"a"`), 0},
		{"Upgrade", req("GET", nil, "Upgrade", "websocket"), rfc9111.RequestUpgrade},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, bypass := rfc9111.Bypass(tt.r)
			if got != tt.want || bypass != (tt.want != 0) {
				t.Errorf("Bypass: got %v, %v; want %v", got, bypass, tt.want)
			}
		})
	}
}

func TestOnError_section4_2_4(t *testing.T) {
	t.Parallel()
	const s = time.Second
	strict := rfc9111.Policy{KeepStale: -1}
	minute := rfc9111.Stored{Status: 200, ResponseTime: noon, Lifetime: time.Minute}
	with := func(f func(*rfc9111.Stored)) rfc9111.Stored { st := minute; f(&st); return st }
	window := with(func(st *rfc9111.Stored) { st.IfError = 10 * s })
	revalidate := with(func(st *rfc9111.Stored) { st.IfError, st.Revalidate = 10*s, true })
	noCache := with(func(st *rfc9111.Stored) { st.IfError, st.NoCache = 10*s, true })
	cc := func(v string) http.Header { return h("Cache-Control", v) }
	tests := []struct {
		name   string
		policy rfc9111.Policy
		method string
		req    http.Header
		stored rfc9111.Stored
		status int
		after  time.Duration
		want   rfc9111.Verdict
	}{
		{"500, RFC 5861 4", strict, "GET", nil, window, 500, 69 * s, rfc9111.StaleOnError},
		{"502", strict, "GET", nil, window, 502, 69 * s, rfc9111.StaleOnError},
		{"503", strict, "HEAD", nil, window, 503, 69 * s, rfc9111.StaleOnError},
		{"504", strict, "GET", nil, window, 504, 69 * s, rfc9111.StaleOnError},
		{"501 is an answer", strict, "GET", nil, window, 501, 69 * s, rfc9111.Stale},
		{"404 is an answer", strict, "GET", nil, window, 404, 69 * s, rfc9111.Stale},
		{"after the window", strict, "GET", nil, window, 503, 70 * s, rfc9111.Stale},
		{"no window", strict, "GET", nil, minute, 503, 60 * s, rfc9111.Stale},
		{"no window, but disconnected", safe, "GET", nil, minute, 503, 60*s + rfc9111.DefaultKeepStale - 1, rfc9111.StaleOnError},
		{"disconnected for long", safe, "GET", nil, minute, 503, 60*s + rfc9111.DefaultKeepStale, rfc9111.Stale},
		{"the client's window", strict, "GET", cc("stale-if-error=10"), minute, 503, 69 * s, rfc9111.StaleOnError},
		{"a policy deaf to it", rfc9111.Policy{KeepStale: -1, IgnoreRequest: true}, "GET", cc("stale-if-error=10"), minute, 503, 69 * s, rfc9111.Stale},
		{"a fresh one that the client declined", strict, "GET", cc("no-cache"), minute, 503, s, rfc9111.StaleOnError},
		{"must-revalidate", safe, "GET", nil, revalidate, 503, 61 * s, rfc9111.Stale},
		{"must-revalidate while fresh", safe, "GET", cc("no-cache"), revalidate, 503, s, rfc9111.StaleOnError},
		{"no-cache", safe, "GET", nil, noCache, 503, s, rfc9111.Stale},
		{"somebody's own", safe, "GET", h("Cookie", "a=b"), minute, 503, 61 * s, rfc9111.Credentials},
		{"POST", safe, "POST", nil, minute, 503, 61 * s, rfc9111.MethodNotCached},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := tt.policy.OnError(rfc9111.NewRequest(tt.method, tt.req), tt.stored, tt.status, noon.Add(tt.after))
			if got.Verdict != tt.want || got.Age != tt.after || got.TTL != time.Minute-tt.after {
				t.Errorf("got %v, age %v, ttl %v; want %v, %v, %v", got.Verdict, got.Age, got.TTL, tt.want, tt.after, time.Minute-tt.after)
			}
		})
	}
}
