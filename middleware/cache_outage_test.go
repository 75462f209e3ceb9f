package middleware_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

// spent is what a request took outside of the handler.
type spent struct {
	begun  time.Time
	beyond time.Duration
	hit    bool
}

type withinKey struct{}

// outage is a cache whose Redis goes away under load.
type outage struct {
	t       *testing.T
	handler http.Handler
	calls   sync.Map // by path: *atomic.Int64
}

// slowly answers after the time that the path's last segment says, if it is one, with
// what X-User says.
func (o *outage) slowly(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	if took, ok := r.Context().Value(withinKey{}).(*atomic.Int64); ok {
		defer func() { took.Add(int64(time.Since(begun))) }()
	}
	o.called(r.URL.Path).Add(1)
	if d, err := time.ParseDuration(r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]); err == nil {
		patiently(r.Context(), d)
	}
	w.Header().Set("Cache-Control", "max-age=600")
	switch {
	case strings.HasPrefix(r.URL.Path, "/private"):
		w.Header().Set("Cache-Control", "private")
	case strings.HasPrefix(r.URL.Path, "/vary"):
		w.Header().Set("Vary", "X-User")
	case strings.HasPrefix(r.URL.Path, "/panic") && o.called(r.URL.Path).Load() == 1:
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(w, r.Header.Get("X-User"))
}

func (o *outage) called(path string) *atomic.Int64 {
	n, _ := o.calls.LoadOrStore(path, new(atomic.Int64))
	return n.(*atomic.Int64)
}

func (o *outage) get(path, user string) (s spent, body string) {
	o.t.Helper()
	within := new(atomic.Int64)
	r := httptest.NewRequestWithContext(context.WithValue(o.t.Context(), withinKey{}, within), "GET", path, nil)
	r.Header.Set("X-User", user)
	w := httptest.NewRecorder()
	s.begun = time.Now()
	func() {
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				panic(p)
			}
		}()
		o.handler.ServeHTTP(w, r)
	}()
	s.beyond = time.Since(s.begun) - time.Duration(within.Load())
	s.hit = strings.Contains(w.Header().Get("Cache-Status"), ";hit")
	return s, w.Body.String()
}

// load asks for ever other paths, and for one that is stored, until stop is closed.
func (o *outage) load(stop <-chan struct{}) (others, stored []spent) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return others, stored
		case <-time.After(2 * time.Millisecond):
		}
		s, _ := o.get(fmt.Sprint("/other/", n), "")
		others = append(others, s)
		s, _ = o.get("/stored", "")
		stored = append(stored, s)
	}
}

// crowd sends 25 users at once.
func (o *outage) crowd(path string, share bool) {
	o.t.Helper()
	var wg sync.WaitGroup
	for i := range 25 {
		wg.Go(func() {
			user := fmt.Sprint("user ", i)
			if _, body := o.get(path, user); !share && body != user && body != "" {
				o.t.Errorf("%s: %s got %q", path, user, body)
			}
		})
	}
	wg.Wait()
}

// Redis hangs, or dies, under load. Beyond what the handler takes, the first requests wait
// for the budget, and with the breaker open none but the probes does; the near tier
// answers for at most a second more (not at all if its connection has ended); of those who ask for the same at once one goes to the
// handler, and the others have its answer if it is for all; when Redis is back it is used.
//
// Red when findSolo lets nobody wait, Keep gives nothing to who waits, or get in near.go
// does not look at proven.
func TestCache_outage(t *testing.T) {
	for name, fault := range faultsOfRedis {
		for _, near := range []bool{true, false} {
			t.Run(fmt.Sprint(name, ", near ", near), func(t *testing.T) {
				if campaign(0, 1) == 0 {
					t.Parallel() // no time is checked
				}
				b := testkit.Server(t)
				options := []cache.Option{cache.WithTimeout(cacheBudget)}
				if near {
					options = append(options, cache.WithNear(8<<20))
				}
				o := &outage{t: t}
				c := newCachedOn(t, b, options, o.slowly)
				t.Cleanup(c.store.Close)
				o.handler = c.Handler
				testkit.Eventually(t, "a hit", func() bool { s, _ := o.get("/stored", ""); return s.hit })
				stop := make(chan struct{})
				var others, stored []spent
				var wg sync.WaitGroup
				wg.Go(func() { others, stored = o.load(stop) })
				time.Sleep(300 * time.Millisecond)
				fault.begin(t, b)
				silent := time.Now()
				time.Sleep(1300 * time.Millisecond)
				o.together(t)
				time.Sleep(time.Duration(campaign(0, 3000)) * time.Millisecond)
				back := time.Now()
				fault.end(t, b)
				testkit.Eventually(t, "a hit of what is stored anew", func() bool { s, _ := o.get("/stored", ""); return s.hit })
				t.Logf("used again after %v", time.Since(back).Round(time.Millisecond))
				close(stop)
				wg.Wait()
				// A near tier whose connection has ended trusts nothing it has.
				o.judge(others, stored, silent, back, near && !fault.lost)
			})
		}
	}
}

// together checks that requests for the same go together while Redis is silent.
func (o *outage) together(t *testing.T) {
	t.Helper()
	for path, want := range map[string]int64{"/page/300ms": 1, "/vary/300ms": 25, "/private/300ms": 25, "/panic/300ms": 2} {
		begun := time.Now()
		o.crowd(path, want < 25)
		if n := o.called(path).Load(); n != want {
			t.Errorf("%s: 25 at once called the handler %d times; want %d", path, n, want)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("%s: 25 at once took %v", path, took)
		}
	}
	begun := time.Now()
	o.crowd("/private/300ms", false)
	if took := time.Since(begun); took > 450*time.Millisecond && campaign(0, 1) == 1 {
		t.Errorf("what cannot be shared took %v the second time; want nobody to wait", took)
	}
}

func (o *outage) judge(others, stored []spent, silent, back time.Time, near bool) {
	o.t.Helper()
	const detected = 300 * time.Millisecond // five budgets, and a little
	var before, first, then []time.Duration
	slow := 0
	for _, s := range others {
		switch d := s.begun.Sub(silent); {
		case d < 0:
			before = append(before, s.beyond)
		case d < detected:
			first = append(first, s.beyond)
		case s.begun.Before(back):
			then = append(then, s.beyond)
			if s.beyond > time.Millisecond {
				slow++
			}
		}
	}
	o.t.Logf("beyond the handler: before %s; until it is detected %s; then %s, %d over 1 ms", spread(before), spread(first), spread(then), slow)
	var last time.Duration
	hits := 0
	for _, s := range stored {
		if d := s.begun.Sub(silent); d > 0 && s.begun.Before(back) && s.hit {
			hits, last = hits+1, max(last, d)
		}
	}
	o.t.Logf("the near tier answered %d times, for %v", hits, last)
	if near && hits == 0 || last > time.Second {
		o.t.Errorf("%d answers of what is stored while Redis was silent, for %v; want some of a near tier that hears nothing, for a second at the most", hits, last)
	}
	if campaign(0, 1) == 0 {
		return
	}
	if worst := first[len(first)-1]; worst > cacheBudget+25*time.Millisecond {
		o.t.Errorf("a first request took %v beyond the handler; want the budget of %v", worst, cacheBudget)
	}
	// A probe a quarter of a second waits for the budget.
	if p := then[len(then)*9/10]; p > time.Millisecond {
		o.t.Errorf("with the breaker open nine in ten took up to %v; want 1 ms at the most", p)
	}
}
