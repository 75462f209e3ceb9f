package bench

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// BenchmarkDataStampede is how often the source is asked for a cold key that two
// instances, with 100 goroutines each, ask for at a time.
func BenchmarkDataStampede(b *testing.B) {
	addr, admin := serve(b)
	s := dataTables.sheet("Stampede", "loads per cold key", "wrong answers")
	s.exactness = true
	keys := make([]string, stampedeKeys)
	for i := range keys {
		keys[i] = fmt.Sprintf("cold-%09d", i)
	}
	for _, c := range cachers {
		loads, wrong, err := stampede(b.Context(), c, addr, keys)
		if err != nil {
			b.Fatalf("%s: %v", c.name, err)
		}
		dataTables.verdicts[c.name] = number(loads)
		s.add(c.name, number(loads), fmt.Sprint(wrong))
		if err := admin.FlushAll(b.Context()).Err(); err != nil {
			b.Fatal(err)
		}
		if c.name == weirData.name {
			instead(b, loads, "weir-loads/key")
		}
	}
	s.note("Two instances of %d goroutines each, a source that takes %v, the mean of %d keys.", stampedeCallers, sourceTakes, stampedeKeys)
}

// BenchmarkDataHit is a read of what is kept: time on loopback by the number of
// goroutines, and what it takes of the network, of Redis and of the garbage collector.
func BenchmarkDataHit(b *testing.B) {
	addr, admin := serve(b)
	s := dataTables.sheet("Hit: time per read")
	keys := make([]string, 64)
	for i := range keys {
		keys[i] = fmt.Sprintf("hit-%09d", i)
	}
	ask1 := func(_ context.Context, key string) (record, error) { return recordOf(key), nil }
	cells := make([][]string, len(cachers))
	reads := make([]func(context.Context, string) (bool, error), len(cachers))
	for i, c := range cachers {
		reads[i] = reading(b, c, i, addr, ask1)
		ask(warmUp, 16, keys, true, reads[i])
		time.Sleep(600 * time.Millisecond) // a near tier proves itself
		ask(warmUp, 16, keys, true, reads[i])
	}
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			rounds, length := pace(15, 40*time.Millisecond)
			rows := compare(b, cachers, cacherReferences, turns(rounds, len(cachers), func(i int) tally {
				return ask(length, callers, keys, true, reads[i])
			}))
			at := plural(callers, "goroutine")
			s.columns = append(s.columns, at+", µs", "× go-redis/cache", "× with TinyLFU")
			for i, row := range rows {
				cells[i] = append(cells[i], number(row.each/1e3), times(row.times[0]), times(row.times[1]))
			}
			s.noise(rows, rounds, at)
			s.failed(names(cachers), rows, at)
			instead(b, rows[0].times[0], "weir/go-redis-cache")
		})
	}
	s.columns = append(s.columns, "commands", "round trips", "bytes up", "bytes down", "allocations")
	for i, c := range cachers {
		cost := taken(b, addr, admin, func(addr string) func() {
			read := reading(b, c, i, addr, ask1)
			for range 3 {
				if _, err := read(b.Context(), keys[0]); err != nil {
					b.Fatal(err)
				}
				time.Sleep(300 * time.Millisecond)
			}
			return func() {
				if right, err := read(b.Context(), keys[0]); err != nil || !right {
					b.Fatalf("%s: %v, %v", c.name, right, err)
				}
			}
		})
		s.add(c.name, append(cells[i], cost[:]...)...)
	}
	s.note("Commands are those that Redis ran, inside of scripts too. A near tier compares numbers with Redis four times a second, whatever is read; that is part of its costs here, spread over 200 reads.")
}

// reading opens a contestant, whose keys nobody else has, and returns what reads one.
func reading(b *testing.B, c caching, index int, addr string, from source) func(context.Context, string) (bool, error) {
	b.Helper()
	client := c.dial(addr, pool)
	b.Cleanup(func() { client.Close() })
	k, err := c.open(client, from)
	if err != nil {
		b.Fatalf("%s: %v", c.name, err)
	}
	if k.close != nil {
		b.Cleanup(k.close)
	}
	// The names are made before, as they are no part of a read.
	own := make(map[string]string)
	for i := range 64 {
		key := fmt.Sprintf("hit-%09d", i)
		own[key] = string(rune('a'+index)) + key
	}
	return func(ctx context.Context, key string) (bool, error) {
		r, err := k.load(ctx, own[key])
		return r.Name == own[key], err
	}
}

// The peers' modules are told apart in the report.
func TestDataModule(t *testing.T) {
	t.Parallel()
	for module, want := range map[string]bool{"go-redis/cache/v9": true, "eko/gocache/lib/v4": true, "go-redis/redis_rate/v10": false} {
		if got := dataModule(module); got != want {
			t.Errorf("%s: got %v; want %v", module, got, want)
		}
	}
}
