package middleware_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
)

// member is one of RateLimit or RateLimit-Policy.
type member struct {
	name   any // a string, or an httpsfv.Token
	params map[string]any
}

// members reads a field as RFC 9651 says, by somebody else's parser.
func members(t *testing.T, h http.Header, field string) (all []member) {
	t.Helper()
	lines := h.Values(field)
	if len(lines) == 0 {
		return nil
	}
	list, err := httpsfv.UnmarshalList(lines)
	if err != nil {
		t.Fatalf("%s %q: %v", field, lines, err)
	}
	for _, m := range list {
		item, ok := m.(httpsfv.Item)
		if !ok {
			t.Fatalf("%s %q: has an inner list", field, lines)
		}
		params := make(map[string]any)
		for _, name := range item.Params.Names() {
			params[name], _ = item.Params.Get(name)
		}
		all = append(all, member{item.Value, params})
	}
	return all
}

func (m member) String() string { return fmt.Sprintf("%T %v %v", m.name, m.name, m.params) }

func checkMembers(t *testing.T, h http.Header, field string, want ...member) {
	t.Helper()
	if got := members(t, h, field); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s %q:\n%v; want\n%v", field, h.Values(field), got, want)
	}
}

type params = map[string]any

// Both lists tell of every limit, in both dialects, on what passes and on what is
// refused.
//
// Red when a limit is left out, when w is sent below a second or rounded down,
// when AtOnce has a window, and when a Token is quoted or a String is not.
func TestRateLimit_lists9651(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiter := newLimiter(t, testkit.Memory(t).Client(t), ratelimit.Every(4, 1500*time.Millisecond).Named("burst"),
			ratelimit.Every(4, 900*time.Millisecond), ratelimit.PerMinute(60).Smooth(5), ratelimit.PerHour(6).Named("A.b-c_d:e/9"), ratelimit.AtOnce(3, time.Minute))
		mount := func(options ...middleware.RateLimitOption) http.Handler {
			return middleware.RateLimit(limiter, fixedKey("k"), append(options, middleware.WithCostFunc(costOf))...)(new(countedHandler))
		}
		draft, editors, none := mount(), mount(middleware.WithDialect(middleware.Editors2026)), mount(middleware.WithDialect(middleware.NoDialect))
		time.Sleep(time.Duration(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))) // a whole second

		got := costly(draft, 2).Header
		checkMembers(t, got, "RateLimit-Policy",
			member{"per-900ms", params{"q": int64(4)}},
			member{"burst", params{"q": int64(4), "w": int64(2)}},
			member{"smooth-per-minute", params{"q": int64(60), "w": int64(60), "weir-burst": int64(5)}},
			member{"A.b-c_d:e/9", params{"q": int64(6), "w": int64(3600)}},
			member{"at-once", params{"q": int64(3), "qu": "concurrent-requests"}})
		checkMembers(t, got, "RateLimit",
			member{"per-900ms", params{"r": int64(2), "t": int64(1)}},
			member{"burst", params{"r": int64(2), "t": int64(2)}},
			member{"smooth-per-minute", params{"r": int64(3), "t": int64(1)}},
			member{"A.b-c_d:e/9", params{"r": int64(4), "t": int64(3600)}},
			member{"at-once", params{"r": int64(2)}})

		token := func(s string) any { return httpsfv.Token(s) }
		answer := costly(editors, 2)
		checkMembers(t, answer.Header, "RateLimit-Policy",
			member{token("per-900ms"), params{"q": int64(4)}},
			member{token("burst"), params{"q": int64(4), "w": int64(2)}},
			member{token("smooth-per-minute"), params{"q": int64(60), "w": int64(60), "weir-burst": int64(5)}},
			member{token("A.b-c_d:e/9"), params{"q": int64(6), "w": int64(3600)}},
			member{token("at-once"), params{"q": int64(3), "qu": "concurrent-requests"}})
		checkMembers(t, answer.Header, "RateLimit",
			member{token("per-900ms"), params{"a": int64(0), "w": int64(1), "c": int64(2)}},
			member{token("burst"), params{"a": int64(0), "w": int64(2), "c": int64(2)}},
			member{token("smooth-per-minute"), params{"a": int64(1), "w": int64(1), "c": int64(2)}},
			member{token("A.b-c_d:e/9"), params{"a": int64(2), "w": int64(3600), "c": int64(2)}},
			member{token("at-once"), params{"a": int64(2), "c": int64(1)}})

		answer = costly(editors, 2) // refused by the first three
		for _, m := range members(t, answer.Header, "RateLimit") {
			if answer.StatusCode != 429 || m.params["c"] != int64(0) {
				t.Errorf("%d %v; want 429, of no cost", answer.StatusCode, m)
			}
		}
		if p := checkProblem(t, answer, 429); !slices.Equal(p.Policies, []string{"per-900ms", "burst", "smooth-per-minute"}) {
			t.Errorf("policies %q; want those that are full", p.Policies)
		}
		if h := costly(none, 0).Header; h.Get("RateLimit") != "" || h.Get("RateLimit-Policy") != "" || h.Get("X-RateLimit-Limit") == "" {
			t.Errorf("%v; want the X-RateLimit fields alone", h)
		}
	})
}

// The three forms of X-RateLimit-Reset are one instant, rounded up.
func TestRateLimit_reset(t *testing.T) {
	t.Parallel()
	for _, offset := range []time.Duration{0, time.Millisecond, 999 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			limiter := newLimiter(t, testkit.Memory(t).Client(t), ratelimit.Every(3, 90500*time.Millisecond))
			reset := func(form middleware.ResetForm) string {
				return ask(middleware.RateLimit(limiter, fixedKey("k"), middleware.WithReset(form))(new(countedHandler)), "192.0.2.1").Header.Get("X-RateLimit-Reset")
			}
			time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second + offset)))
			first := time.Now()
			if got, want := reset(middleware.ResetDelta), "91"; got != want {
				t.Errorf("delta %s; want %s", got, want)
			}
			grows := first.Add(90500 * time.Millisecond)
			up := grows.Add(time.Second - time.Nanosecond).Truncate(time.Second)
			if got, want := reset(middleware.ResetEpoch), strconv.FormatInt(up.Unix(), 10); got != want {
				t.Errorf("epoch %s; want %s", got, want)
			}
			if got, want := reset(middleware.ResetISO8601), up.UTC().Format("2006-01-02T15:04:05Z"); got != want {
				t.Errorf("ISO 8601 %s; want %s", got, want)
			}
			time.Sleep(90 * time.Second)
			if got := reset(middleware.ResetDelta); got != "1" {
				t.Errorf("delta half a second before: %s; want 1", got)
			}
		})
	}
}

// AtOnce has nearly always the least room, and nothing to pace by: the X-RateLimit
// fields are about it only if it refuses, or is alone.
func TestRateLimit_tripleOfAtOnce(t *testing.T) {
	t.Parallel()
	limiter := newLimiter(t, testkit.Mini(t).Client(t), ratelimit.PerHour(10), ratelimit.PerMinute(100), ratelimit.AtOnce(2, time.Minute))
	var h http.Handler
	deep := 0
	h = middleware.RateLimit(limiter, fixedKey("k"))(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		deep++
		if got := w.Header(); seconds(t, got, "X-RateLimit-Limit") != 10 || seconds(t, got, "X-RateLimit-Remaining") != int64(10-deep) || got.Get("X-RateLimit-Reset") == "" {
			t.Errorf("%v; want what the hour has left", got)
		}
		got := ask(h, "192.0.2.1")
		if deep == 1 || got.StatusCode == 200 {
			return // the second is answered inside of the first, the third of the second
		}
		if seconds(t, got.Header, "X-RateLimit-Limit") != 2 || seconds(t, got.Header, "X-RateLimit-Remaining") != 0 || got.Header.Get("X-RateLimit-Reset") != "" || seconds(t, got.Header, "Retry-After") != 1 {
			t.Errorf("%v; want the places, all taken, Retry-After 1", got.Header)
		}
		if p := checkProblem(t, got, 429); !slices.Equal(p.Policies, []string{"at-once"}) {
			t.Errorf("policies %q; want at-once", p.Policies)
		}
	}))
	if ask(h, "192.0.2.1"); deep != 2 {
		t.Errorf("%d were in flight; want 2", deep)
	}

	alone := middleware.RateLimit(newLimiter(t, testkit.Mini(t).Client(t), ratelimit.AtOnce(2, time.Minute)), fixedKey("k"))(new(countedHandler))
	if got := ask(alone, "192.0.2.1").Header; seconds(t, got, "X-RateLimit-Limit") != 2 || seconds(t, got, "X-RateLimit-Remaining") != 1 || got.Get("X-RateLimit-Reset") != "" {
		t.Errorf("%v; want the places", got)
	}
}

// Of two RateLimits the tighter one's numbers are sent, whichever is outside; on
// a denial those of the one that denies; and the lists have the members of both.
//
// Red when setTriple overwrites what it finds, or keeps it on a denial, and when
// addLine sets the line.
func TestRateLimit_stacked(t *testing.T) {
	t.Parallel()
	limit := map[string]ratelimit.Limit{"loose": ratelimit.PerHour(4).Named("loose"), "tight": ratelimit.PerMinute(2).Named("tight")}
	for _, order := range [][2]string{{"loose", "tight"}, {"tight", "loose"}} {
		t.Run(order[0]+" outside", func(t *testing.T) {
			t.Parallel()
			var mounts []middleware.Middleware
			for _, name := range order {
				mounts = append(mounts, middleware.RateLimit(newLimiter(t, testkit.Mini(t).Client(t), limit[name]), fixedKey("k")))
			}
			next := new(countedHandler)
			h := middleware.Chain(mounts...)(next)
			for i, want := range []struct {
				status    int
				remaining int64
				names     []any
			}{{200, 1, []any{order[0], order[1]}}, {200, 0, []any{order[0], order[1]}}, {429, 0, nil}} {
				got := ask(h, "192.0.2.1")
				if got.StatusCode != want.status || seconds(t, got.Header, "X-RateLimit-Limit") != 2 || seconds(t, got.Header, "X-RateLimit-Remaining") != want.remaining {
					t.Errorf("request %d: %d %v; want %d, %d of 2", i+1, got.StatusCode, got.Header, want.status, want.remaining)
				}
				if want.status == 429 {
					if p := checkProblem(t, got, 429); !slices.Equal(p.Policies, []string{"tight"}) {
						t.Errorf("policies %q; want tight", p.Policies)
					}
					want.names = []any{order[0], order[1]}[:slices.Index(order[:], "tight")+1]
				}
				for _, field := range []string{"RateLimit", "RateLimit-Policy"} {
					var names []any
					for _, m := range members(t, got.Header, field) {
						names = append(names, m.name)
					}
					if !slices.Equal(names, want.names) {
						t.Errorf("request %d: %s of %v; want %v", i+1, field, names, want.names)
					}
				}
			}
		})
	}

	// The loose one denies inside of one that has less left.
	outer := middleware.RateLimit(newLimiter(t, testkit.Mini(t).Client(t), ratelimit.PerHour(1).Named("outer")), fixedKey("k"))
	inner := middleware.RateLimit(newLimiter(t, testkit.Mini(t).Client(t), ratelimit.PerHour(5).Named("inner")), fixedKey("k"), middleware.WithCost(6))
	got := ask(middleware.Chain(outer, inner)(new(countedHandler)), "192.0.2.1")
	if got.StatusCode != 429 || seconds(t, got.Header, "X-RateLimit-Limit") != 5 || seconds(t, got.Header, "X-RateLimit-Remaining") != 5 {
		t.Errorf("%d %v; want 429 and the numbers of the one that denies", got.StatusCode, got.Header)
	}
}

// No header list is shared: what one response adds to, no other sees.
//
// Red when RateLimit-Policy is one list for all responses, or addLine appends in
// place.
func TestRateLimit_listsAreNotShared(t *testing.T) {
	t.Parallel()
	limiter := newLimiter(t, testkit.Mini(t).Client(t), ratelimit.PerHour(100))
	h := middleware.RateLimit(limiter, fixedKey("k"))(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if got := w.Header()["Ratelimit-Policy"]; !slices.Equal(got, []string{`"per-hour";q=100;w=3600`}) {
			t.Errorf("RateLimit-Policy %q", got)
		}
		for name, lines := range w.Header() {
			lines[0] = "overwritten"
			w.Header()[name] = append(lines, "added")
		}
	}))
	outside := append(make([]string, 0, 8), `"outside";r=1`)
	for range 2 {
		w := httptest.NewRecorder()
		w.Header()["Ratelimit"] = outside
		h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	}
	if got := outside[:2]; got[1] != "" || got[0] == "overwritten" {
		t.Errorf("the list outside became %q", got)
	}
}

// pk is the key's HMAC, the same for all of a key's answers and in both fields, and
// another one for another key or secret. The secret is copied.
//
// Red when partitions does not reset its HMAC, and when WithPartitionKey keeps
// the caller's slice.
func TestRateLimit_partitionKey(t *testing.T) {
	t.Parallel()
	limiter := newLimiter(t, testkit.Mini(t).Client(t), ratelimit.PerHour(100), ratelimit.PerMinute(50))
	secret := []byte("0123456789abcdef")
	option := middleware.WithPartitionKey(secret)
	mac := hmac.New(sha256.New, secret)
	clear(secret)
	h := middleware.RateLimit(limiter, middleware.KeyByIP, option)(new(countedHandler))
	for range 2 {
		for _, ip := range []string{"192.0.2.1", "192.0.2.2"} {
			mac.Reset()
			mac.Write([]byte(ip))
			want := mac.Sum(nil)[:16]
			got := ask(h, ip)
			for _, field := range []string{"RateLimit", "RateLimit-Policy"} {
				all := members(t, got.Header, field)
				if len(all) != 2 {
					t.Fatalf("%s %q; want two members", field, got.Header.Values(field))
				}
				for _, m := range all {
					if pk, _ := m.params["pk"].([]byte); !bytes.Equal(pk, want) {
						t.Errorf("%s of %s: pk %x; want %x", field, ip, pk, want)
					}
				}
				if strings.Contains(got.Header.Get(field), ip) {
					t.Errorf("%s tells the key: %s", field, got.Header.Get(field))
				}
			}
		}
	}
}

// Telling a verdict allocates one array for all the lists, and a text each for
// Remaining, Reset and RateLimit, however many limits there are. Two numbers below
// 100 need none.
func TestRateLimit_fieldAllocations(t *testing.T) {
	b := testkit.Mini(t)
	for n, limits := range map[int][]ratelimit.Option{
		1: nil,
		5: {ratelimit.PerMinute(1 << 20), ratelimit.PerSecond(1 << 20), ratelimit.PerHour(1 << 20).Smooth(500), ratelimit.AtOnce(1<<20, time.Minute)},
	} {
		limiter := newLimiter(t, b.Client(t), ratelimit.PerHour(1<<20), append(limits, ratelimit.WithName(strconv.Itoa(n)))...)
		result, err := limiter.Allow(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		for dialect, most := range map[middleware.Dialect]float64{middleware.Draft11: 4, middleware.Editors2026: 4, middleware.NoDialect: 3} {
			announce, h := middleware.Announcer(limiter, dialect), make(http.Header)
			got := testing.AllocsPerRun(500, func() {
				clear(h)
				announce(h, result)
			})
			if got > most {
				t.Errorf("%d limits, dialect %d: %v allocations; want at most %v", n, dialect, got, most)
			}
		}
	}
	limiter := newLimiter(t, b.Client(t), ratelimit.PerHour(1))
	skipped := middleware.RateLimit(limiter, fixedKey("k"), middleware.WithAllowList(prefix("192.0.2.0/24")), middleware.WithDenyList(prefix("203.0.113.0/24")),
		middleware.WithSkip(func(*http.Request) bool { return true }))(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	r := httptest.NewRequest("GET", "/", nil)
	if got := testing.AllocsPerRun(500, func() { skipped.ServeHTTP(discardWriter{}, r) }); got > 1 { // the test's own writer
		t.Errorf("a request that is let pass: %v allocations; want none", got)
	}
}

// Whatever the limits, the key and the cost are, the fields are Lists as the
// drafts say, and Retry-After is no earlier than the t of a limit without room.
func FuzzRateLimit_fields(f *testing.F) {
	f.Add(3, int64(time.Minute), 2, int64(time.Second), uint8(0), uint8(0), "name", "key", 1, uint8(3))
	f.Add(1, int64(time.Millisecond), 1, int64(1500*time.Millisecond), uint8(1), uint8(1), "A/b", "\xff\"\\", 0, uint8(9))
	f.Add(1<<31-1, int64(366*24*time.Hour), 7, int64(time.Hour), uint8(2), uint8(2), "x:9", "", 1<<31-1, uint8(2))
	f.Add(5, int64(time.Hour), 5, int64(time.Hour), uint8(4), uint8(1), "", "a\r\nb: c", 6, uint8(1))
	secret := []byte("0123456789abcdef")
	f.Fuzz(func(t *testing.T, n1 int, window1 int64, n2 int, window2 int64, kind, dialect uint8, name, key string, cost int, times uint8) {
		first, second := ratelimit.Every(n1, time.Duration(window1)), ratelimit.Every(n2, time.Duration(window2))
		switch kind % 3 {
		case 1:
			second = second.Smooth(n1)
		case 2:
			second = ratelimit.AtOnce(n2, time.Duration(window2))
		}
		if name != "" {
			first = first.Named(name)
		}
		limiter, err := ratelimit.New(&brokenRedis{err: errUnreachable}, first, second)
		if err != nil || key == "" {
			return // no such limiter, no such request
		}
		options := []middleware.RateLimitOption{middleware.WithDialect(middleware.Dialect(dialect % 2)), middleware.WithCostFunc(func(*http.Request) int { return cost })}
		if kind%2 == 0 {
			options = append(options, middleware.WithPartitionKey(secret))
		}
		h := middleware.RateLimit(limiter, fixedKey(key), options...)(new(countedHandler))
		for range times%8 + 1 {
			got := ask(h, "192.0.2.1")
			if got.StatusCode >= 500 {
				if cost >= 0 && cost <= 1<<31-1 {
					t.Fatalf("cost %d: status %d", cost, got.StatusCode)
				}
				return
			}
			policies, states := members(t, got.Header, "RateLimit-Policy"), members(t, got.Header, "RateLimit")
			if cost == 0 && len(policies) == 0 {
				continue // the stand-in has counted nothing yet
			}
			if len(policies) != 2 || len(states) != 2 {
				t.Fatalf("%v; want two members each", got.Header)
			}
			available, window := "r", "t"
			if dialect%2 == 1 {
				available, window = "a", "w"
			}
			for i := range states {
				q, _ := policies[i].params["q"].(int64)
				w, windowed := policies[i].params["w"].(int64)
				r, ok := states[i].params[available].(int64)
				if policies[i].name != states[i].name || q < 1 || !ok || r < 0 || windowed && w < 1 {
					t.Errorf("%v", got.Header)
				}
				if s, ok := states[i].params[window].(int64); ok {
					if after := got.Header.Get("Retry-After"); s < 1 || r == 0 && after != "" && seconds(t, got.Header, "Retry-After") < s {
						t.Errorf("%v: Retry-After before %d", got.Header, s)
					}
				}
			}
			if after := got.Header.Get("Retry-After"); after != "" && (got.StatusCode != 429 || seconds(t, got.Header, "Retry-After") < 1) {
				t.Errorf("%d with Retry-After %q", got.StatusCode, after)
			}
			if seconds(t, got.Header, "X-RateLimit-Remaining") < 0 {
				t.Errorf("%v", got.Header)
			}
		}
	})
}
