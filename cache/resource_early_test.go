package cache_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/internal/testkit"
)

// costly keeps what is always due early, whatever is drawn, for its cost is a day.
func (m maker) costly(t *testing.T, data string) {
	t.Helper()
	m.costlyEarly(t, data, 0)
}

func (m maker) costlyEarly(t *testing.T, data string, beta float64) {
	t.Helper()
	f, err := m.Find(t.Context(), cache.Resource{Key: "k", Variant: plain, Early: beta})
	noError(t, err)
	if kept, err := f.Keep(t.Context(), cache.Variant{Data: []byte(data), Fresh: time.Minute, Keep: time.Hour, Cost: 24 * time.Hour}); !kept || err != nil {
		t.Fatalf("Keep: got %v, %v", kept, err)
	}
}

// early finds what is kept, and says whether it is to be made anew.
func (m maker) early(t *testing.T, beta float64) cache.Found {
	t.Helper()
	f, err := m.Find(t.Context(), cache.Resource{Key: "k", Variant: plain, Early: beta})
	noError(t, err)
	if f.Value == nil || f.Stale || f.Busy || f.Claimed != f.Early {
		t.Errorf("got %+v; want what is fresh, and a claim only early", f)
	}
	return f
}

// Of four instances with 25 callers each one makes anew what is due; all have it.
//
// Red when find.lua does not look for a lease before it takes one early.
func TestStore_Find_early(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		for name, options := range map[string][]cache.Option{"plain": nil, "near": {cache.WithNear(1 << 20)}} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				makers := newMakers(t, b, 4, options...)
				makers[0].costly(t, "old")
				for _, m := range makers {
					if f := m.early(t, 0); f.Early {
						t.Error("early without being asked to")
					}
				}
				makers[0].costly(t, "old") // near copies that nothing was drawn for go
				var claims atomic.Int64
				var claimed atomic.Pointer[cache.Found]
				var wg sync.WaitGroup
				for i := range 100 {
					wg.Go(func() {
						if f := makers[i%4].early(t, 100); f.Early {
							claims.Add(1)
							claimed.Store(&f)
						}
					})
				}
				wg.Wait()
				if got := claims.Load(); got != 1 {
					t.Fatalf("%d were to make it anew; want 1", got)
				}
				if kept, err := claimed.Load().Keep(t.Context(), cache.Variant{Data: []byte("new"), Fresh: time.Minute, Keep: time.Hour}); !kept || err != nil {
					t.Fatalf("Keep: got %v, %v", kept, err)
				}
				testkit.Eventually(t, "the new", func() bool {
					f := makers[1].early(t, 100)
					return f.Value == "new" && !f.Early // it has cost nothing
				})
			})
		}
	})
}

// With a near tier Redis is asked in time whether it is due, by who stored it and by who
// has read it.
//
// Red without drawn in keepVariant, or in keepFound.
func TestStore_Find_earlyNear(t *testing.T) {
	t.Parallel()
	makers := newMakers(t, testkit.Mini(t), 2, cache.WithNear(1<<20))
	m := makers[0]
	near := func(what string) {
		t.Helper()
		testkit.Eventually(t, what, func() bool { return m.early(t, 0).Near })
	}
	m.costly(t, "old")
	near("the near tier to begin")
	m.costlyEarly(t, "stored", 100)
	f := m.early(t, 100)
	if f.Near || !f.Early {
		t.Errorf("what was stored: got %+v; want it due", f)
	}
	f.Yield(t.Context(), false)
	makers[1].costlyEarly(t, "read", 100)
	testkit.Eventually(t, "the other's", func() bool {
		f := m.early(t, 100)
		defer f.Yield(t.Context(), false)
		return f.Value == "read"
	})
	if f := m.early(t, 100); f.Near || !f.Early {
		t.Errorf("what was read: got %+v; want it due", f)
	}
}

// What nobody is to wait for is not due either; a claim that was given up is had again.
//
// Red when find.lua takes an early lease over the mark of pass.lua.
func TestStore_Find_earlyPass(t *testing.T) {
	t.Parallel()
	m := newMakers(t, testkit.Mini(t), 1)[0]
	m.costly(t, "old")
	f := m.early(t, 100)
	f.Yield(t.Context(), false)
	f = m.early(t, 100)
	if !f.Early {
		t.Error("not early again")
	}
	f.Yield(t.Context(), true)
	if f := m.early(t, 100); f.Early {
		t.Error("early though it could not be kept")
	}
}

// What was read ahead is not taken for all that Redis says of what is due.
func TestStore_Find_earlyForeseen(t *testing.T) {
	t.Parallel()
	m := newMakers(t, testkit.Mini(t), 1)[0]
	m.costly(t, "old")
	for _, beta := range []float64{0, 100} {
		ctx := rdb.WithForesight(t.Context())
		asked := cache.Resource{Key: "k", Variant: plain, Early: beta}
		m.Foresee(ctx, asked)
		_, err := m.Find(ctx, cache.Resource{Key: "other", Variant: plain})
		noError(t, err)
		f, err := m.Find(ctx, asked)
		noError(t, err)
		if f.Value != "old" || f.Early != (beta > 0) {
			t.Errorf("beta %v: got %+v", beta, f)
		}
	}
}

// A find whose reply was lost runs again, and has the claim it took.
//
// Red when find.lua does not look for its own token in a lease.
func TestStore_Find_earlyReplyLost(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	p := testkit.NewProxy(t, b.Addrs()[0])
	store, err := cache.New(p.Client(t), cache.WithPrefix(b.Prefix(t)), cache.WithTimeout(patience))
	noError(t, err)
	m := maker{Store: store}
	m.costly(t, "old")
	p.SwallowReply(1, "evalsha", testkit.ThenClose)
	if f := m.early(t, 100); !f.Early {
		t.Errorf("got %+v; want the claim that was taken", f)
	}
}
