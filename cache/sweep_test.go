package cache_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

// An invalidation by pattern walks all keys in steps, between which Redis serves
// others: no command of it takes a millisecond of the server's own time, as its log of
// slow commands tells. On a machine that is busy with other tests a command may wait
// for a processor meanwhile; some of them are let pass, in the short form.
//
// Red when scanCount, in internal/rdb, is 100,000.
func TestCache_DeletePattern_inSteps(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes long")
	}
	keys, passed := 50_000, 20
	if soak() {
		keys, passed = 1_000_000, 80
	}
	b := testkit.Server(t, "--slowlog-log-slower-than", "1000", "--slowlog-max-len", "10000")
	client := b.Client(t)
	store, err := cache.New(client, cache.WithTimeout(patience), cache.WithTTL(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	view, err := cache.For[string](store, "v")
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for from := 0; from < keys; from += 1000 {
		all := make([]string, 1000)
		for i := range all {
			all[i] = fmt.Sprintf("%s:%d", []string{"guest", "member"}[i%2], from+i)
		}
		_, err := view.LoadMany(ctx, all, func(_ context.Context, missing []string) (map[string]string, error) {
			found := make(map[string]string, len(missing))
			for _, k := range missing {
				found[k] = "v"
			}
			return found, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	before := client.DBSize(ctx).Val()
	if err := client.Do(ctx, "slowlog", "reset").Err(); err != nil {
		t.Fatal(err)
	}

	// Meanwhile somebody else is served.
	var longest atomic.Int64
	others, stop := context.WithCancel(ctx)
	go func() {
		for others.Err() == nil {
			begun := time.Now()
			client.Ping(others)
			longest.Store(max(longest.Load(), int64(time.Since(begun))))
		}
	}()
	begun := time.Now()
	if err := view.DeletePattern(ctx, "guest:*"); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begun)
	stop()
	slow := client.SlowLogGet(ctx, -1).Val()
	t.Logf("%d keys in %v; %d commands of more than 1 ms; the longest PING %v", keys, took, len(slow), time.Duration(longest.Load()))
	for _, entry := range slow {
		t.Logf("%v: %.60q…", entry.Duration, entry.Args)
	}
	if len(slow) > passed {
		t.Errorf("%d commands took more than 1 ms; the first: %v took %v", len(slow), slow[0].Args, slow[0].Duration)
	}
	if got := before - client.DBSize(ctx).Val(); got != int64(keys/2) {
		t.Errorf("%d entries are gone; want %d", got, keys/2)
	}
	left, err := view.GetMany(ctx, "guest:0", "member:1")
	if err != nil || len(left) != 1 || left["member:1"] != "v" {
		t.Errorf("got %v, %v; want the member", left, err)
	}
}
