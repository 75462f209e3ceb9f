package bench

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
)

// nowhere is a response writer that costs nothing.
type nowhere struct{ h http.Header }

func (n *nowhere) Header() http.Header             { return n.h }
func (*nowhere) WriteHeader(int)                   {}
func (*nowhere) Write(p []byte) (int, error)       { return len(p), nil }
func (*nowhere) WriteString(s string) (int, error) { return len(s), nil }

// BenchmarkResponseInProcess is what a stored answer takes above the handler, without
// HTTP: there a microsecond is seen.
func BenchmarkResponseInProcess(b *testing.B) {
	s := responseTables.sheet("1 KiB in the process, one goroutine", "µs", "above bare, µs", "bytes above bare", "allocations above bare")
	var of []answering
	var asks []func() error
	for _, c := range answerers {
		if c.open.wrap == nil || c.open.misses() && c.name != bareHandler.name {
			continue
		}
		of, asks = append(of, c), append(asks, inProcess(b, c))
	}
	rounds, length := pace(15, 40*time.Millisecond)
	times, memory := make([][]float64, len(of)), make([][2]float64, len(of))
	rows := compare(b, of, answererReferences, turns(rounds, len(of), func(i int) tally {
		t := ask(length, 1, []int{0}, true, func(context.Context, int) (bool, error) { return true, asks[i]() })
		times[i] = append(times[i], t.each())
		return t
	}))
	for i := range of {
		memory[i] = allocated(b, asks[i])
	}
	for i, row := range rows {
		above := make([]float64, rounds)
		for round := range above {
			above[round] = times[i][round] - times[0][round]
		}
		s.add(of[i].name, number(row.each/1e3), number(median(above)/1e3),
			fmt.Sprintf("%.0f", memory[i][0]-memory[0][0]), fmt.Sprintf("%.0f", memory[i][1]-memory[0][1]))
		if of[i].name == weirNearAnswer.name {
			instead(b, median(above)/1e3, "µs-above-bare")
		}
	}
	s.noise(rows, rounds, "one goroutine")
	s.note("Weir means to take at most 4 µs, 1 KiB and 9 allocations above the bare handler for a hit in the near tier.")
}

// inProcess opens a contestant, and returns what asks it once.
func inProcess(b *testing.B, c answering) func() error {
	b.Helper()
	addr := testkit.Server(b).Addrs()[0]
	client := c.dial(addr, pool)
	b.Cleanup(func() { client.Close() })
	p := newPage(1<<10, c.open.noStore)
	h, err := c.open.wrap(client, p)
	if err != nil {
		b.Fatalf("%s: %v", c.name, err)
	}
	w, r := &nowhere{http.Header{}}, httptest.NewRequest("GET", "/page", nil)
	once := func() error {
		clear(w.h)
		h.ServeHTTP(w, r)
		if w.h["Content-Length"] == nil {
			return fmt.Errorf("%s: an answer without Content-Length", c.name)
		}
		return nil
	}
	if c.open.misses() {
		return once
	}
	admin := redis.NewClient(&redis.Options{Addr: addr})
	b.Cleanup(func() { admin.Close() })
	testkit.Eventually(b, c.name+" to answer from the cache", func() bool {
		calls, scripts := p.calls.Load(), scriptsOf(b, admin)
		for range 32 {
			if err := once(); err != nil {
				b.Fatal(err)
			}
		}
		return p.calls.Load() == calls && (!c.open.near || scriptsOf(b, admin) == scripts)
	})
	return once
}

// allocated is what a call takes of the memory: bytes and allocations.
func allocated(b *testing.B, once func() error) [2]float64 {
	b.Helper()
	const times = 2000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range times {
		if err := once(); err != nil {
			b.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	return [2]float64{float64(after.TotalAlloc-before.TotalAlloc) / times, float64(after.Mallocs-before.Mallocs) / times}
}
