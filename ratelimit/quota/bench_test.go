package quota_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit/quota"
)

// One call on a real server over loopback, by how many ids the account remembers.
// "reserve" is a Reserve and its Commit: two round trips.
func BenchmarkLedger(b *testing.B) {
	server := testkit.Shared(b, "server")
	client := server.Client(b, func(o *redis.UniversalOptions) { o.ContextTimeoutEnabled = true })
	ctx := context.Background()
	for _, remembered := range []int{0, 50_000} {
		l, err := quota.New(client, quota.WithPrefix(server.Prefix(b)), quota.WithTimeout(time.Second), quota.WithMaxIDs(10_000_000))
		if err != nil {
			b.Fatal(err)
		}
		for i := range remembered {
			if _, err := l.TopUp(ctx, "a", 1, fmt.Sprint(i)); err != nil {
				b.Fatal(err)
			}
		}
		x := teller{b, l}
		x.topUp("a", 1<<50, "")
		calls := map[string]func(){
			"balance": func() { x.balance("a") },
			"deduct":  func() { x.deduct("a", 1, "") },
			"refused": func() { x.deduct("b", 1, "") },
			"reserve": func() { x.commit("a", x.reserve("a", 2, "").ID, 1) },
		}
		for _, name := range []string{"balance", "deduct", "refused", "reserve"} {
			b.Run(fmt.Sprintf("%s/%d", name, remembered), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					calls[name]()
				}
			})
		}
	}
}
