package middleware_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
)

// refundSite serves page behind a RateLimit that wraps the writer.
func refundSite(t *testing.T, http2 bool, page http.HandlerFunc) (*sessionSite, *ratelimit.Limiter, chan middleware.Outcome) {
	t.Helper()
	outcomes := make(chan middleware.Outcome, 1)
	note := func(o middleware.Outcome) bool { outcomes <- o; return false }
	limiter := newLimiter(t, testkit.Mini(t).Client(t), ratelimit.PerHour(10), ratelimit.AtOnce(5, time.Minute))
	mount := middleware.RateLimit(limiter, fixedKey("k"), middleware.WithRefund(note, middleware.OnSuccess))
	return serveSite(t, http2, mount(page)), limiter, outcomes
}

// However a response is made, it comes as without the middleware, with the fields.
func TestRateLimit_waysToAnswer(t *testing.T) {
	t.Parallel()
	file := bytes.Repeat([]byte("0123456789abcdef"), 8<<10)
	for name, tt := range map[string]struct {
		page   http.HandlerFunc
		status int
		body   string
	}{
		"nothing written": {func(http.ResponseWriter, *http.Request) {}, 200, ""},
		"WriteHeader":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, 204, ""},
		"Flush": {func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, "x")
		}, 200, "x"},
		"ResponseController": {func(w http.ResponseWriter, _ *http.Request) {
			c := http.NewResponseController(w)
			if err := c.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Errorf("deadline: %v", err)
			}
			if err := c.Flush(); err != nil {
				t.Errorf("flush: %v", err)
			}
		}, 200, ""},
		"io.Copy": {func(w http.ResponseWriter, r *http.Request) {
			if _, ok := w.(io.ReaderFrom); ok != (r.ProtoMajor == 1) {
				t.Errorf("ReadFrom over %s: %v; want what net/http's own writer has", r.Proto, ok)
			}
			_, _ = io.Copy(w, bytes.NewReader(file))
		}, 200, string(file)},
		"a range": {func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Range", "bytes=16-31")
			http.ServeContent(w, r, "a.txt", time.Unix(1e9, 0), bytes.NewReader(file))
		}, 206, string(file[16:32])},
		"Redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusSeeOther) }, 303, "<a href=\"/\">See Other</a>.\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bothProtocols(t, func(t *testing.T, http2 bool) {
				site, limiter, outcomes := refundSite(t, http2, tt.page)
				a := site.visit("/", "")
				if a.StatusCode != tt.status || a.body != tt.body || a.Header.Get("X-RateLimit-Remaining") != "9" || len(members(t, a.Header, "RateLimit")) != 2 {
					t.Errorf("%s, %d bytes, %v; want %d, %d bytes, and the fields", a.Status, len(a.body), a.Header, tt.status, len(tt.body))
				}
				if o := <-outcomes; o.Status != tt.status || o.Aborted || o.Panicked {
					t.Errorf("%+v; want %d", o, tt.status)
				}
				testkit.Eventually(t, "the count to be given back", func() bool { return left(t, limiter, "k") == 5 })
			})
		})
	}
}

// An event reaches the client while the handler runs, and nothing is given back
// before it ends.
func TestRateLimit_events(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, http2 bool) {
		seen := make(chan struct{})
		site, limiter, _ := refundSite(t, http2, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: one\n\n")
			w.(http.Flusher).Flush()
			select {
			case <-seen:
			case <-r.Context().Done():
				t.Error("the event did not arrive while the handler ran")
			}
			fmt.Fprint(w, "data: two\n\n")
		})
		r, err := site.client.Get(site.url + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body := bufio.NewReader(r.Body)
		if line, err := body.ReadString('\n'); line != "data: one\n" || err != nil {
			t.Fatalf("got %q, %v", line, err)
		}
		if got := left(t, limiter, "k"); got != 4 {
			t.Errorf("%d left during the stream; want one place taken of 5", got)
		}
		close(seen)
		if rest, err := io.ReadAll(body); string(rest) != "\ndata: two\n\n" || err != nil {
			t.Errorf("got %q, %v", rest, err)
		}
		testkit.Eventually(t, "the place to be free", func() bool { return left(t, limiter, "k") == 5 })
	})
}

// 103 leaves at once, and is not the status.
func TestRateLimit_earlyHintsAndTrailers(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, http2 bool) {
		site, _, outcomes := refundSite(t, http2, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("Trailer", "X-Sum")
			_, _ = io.WriteString(w, "page")
			w.Header().Set("X-Sum", "42")
		})
		var hints int
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
				hints++
				if status != 103 || h.Get("Link") == "" {
					t.Errorf("hint: got %d %v", status, h)
				}
				return nil
			},
		})
		a, err := site.tryWith(ctx, "/", "")
		if err != nil {
			t.Fatal(err)
		}
		if o := <-outcomes; a.StatusCode != 200 || a.body != "page" || a.Trailer.Get("X-Sum") != "42" || hints != 1 || o.Status != 200 {
			t.Errorf("%s %q, trailers %v, %d hints, %+v; want the page with one of each", a.Status, a.body, a.Trailer, hints, o)
		}
	})
}

// A flood of refusals and admissions side by side: each is told of its own key.
func TestRateLimit_manyAtOnce(t *testing.T) {
	t.Parallel()
	limiter := newLimiter(t, testkit.Shared(t, "server").Client(t), ratelimit.PerHour(20), ratelimit.WithPrefix(testkit.Shared(t, "server").Prefix(t)))
	const keys, requests = 4, 40
	h := middleware.RateLimit(limiter, middleware.KeyByIP, middleware.WithPartitionKey(make([]byte, 16)))(new(countedHandler))
	type told struct {
		key       int
		status    int
		remaining int64
		pk        string
	}
	answers := make(chan told, keys*requests)
	for i := range keys * requests {
		go func() {
			got := ask(h, fmt.Sprintf("192.0.2.%d", i%keys))
			pk, _ := members(t, got.Header, "RateLimit")[0].params["pk"].([]byte)
			answers <- told{i % keys, got.StatusCode, seconds(t, got.Header, "X-RateLimit-Remaining"), string(pk)}
		}()
	}
	seen := make(map[told]int)
	pks := make(map[int]string)
	for range keys * requests {
		a := <-answers
		if pk, ok := pks[a.key]; ok && pk != a.pk {
			t.Errorf("key %d: two partition keys", a.key)
		}
		pks[a.key] = a.pk
		seen[told{key: a.key, status: a.status, remaining: a.remaining}]++
	}
	for key := range keys {
		for remaining := range int64(20) {
			if n := seen[told{key: key, status: 200, remaining: remaining}]; n != 1 {
				t.Errorf("key %d: %d times 200 with %d remaining; want once", key, n, remaining)
			}
		}
		if n := seen[told{key: key, status: 429}]; n != 20 {
			t.Errorf("key %d: %d times 429; want 20", key, n)
		}
	}
}
