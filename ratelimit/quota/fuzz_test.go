package quota_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit/quota"
)

// Whatever a script, or what stands in Redis's place, may return: a receipt that
// fits together, or an error.
func FuzzParse(f *testing.F) {
	f.Add(`["done", 1, 2, 3, 4, 5, 0, ""]`)
	f.Add(`["done", 9007199254740992, 0, 3, 4, 0, 1, "expired"]`)
	f.Add(`["done", 9007199254740992, 1, 3, 4, 0, 1, ""]`)
	f.Add(`["done", -1, 0, 3, 4, 0, 1, ""]`)
	f.Add(`["done", 1, 2, 3, 4, 5, 0, 7]`)
	f.Add(`["lost", 1, 2, 3, 4, 5, 0, ""]`)
	f.Add(`["done"]`)
	f.Add(`["reused"]`)
	f.Add(`["full", "holds"]`)
	f.Add(`["corrupt", "why"]`)
	f.Add(`[]`)
	f.Add(`[[]]`)
	f.Add(`{"a": 1}`)
	f.Add(`"done"`)
	f.Fuzz(func(t *testing.T, text string) {
		var reply any
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if d.Decode(&reply) != nil {
			return
		}
		r, err := quota.Parse(asReply(reply))
		switch {
		case err != nil:
			if r != (quota.Receipt{}) || !errors.Is(err, quota.ErrCorrupt) && !errors.Is(err, quota.ErrReused) && !errors.Is(err, quota.ErrFull) {
				t.Errorf("%s: %+v, %v; want one of the errors alone", text, r, err)
			}
		case r.Outcome == "" || r.OK != (r.Outcome == quota.Done) || r.Balance < 0 || r.Held < 0 || r.Amount < 0 || r.Balance+r.Held > quota.MaxAmount:
			t.Errorf("%s: %+v does not fit together", text, r)
		}
	})
}

// asReply makes of decoded JSON what go-redis makes of a reply.
func asReply(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = asReply(v[i])
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		return string(v)
	}
	return v
}

// Whatever stands beside the money: a call answers or says ErrCorrupt, the account
// never has more than it had, and where a call says ErrCorrupt nothing changes.
func FuzzStored(f *testing.F) {
	f.Add("hxyz 5", -1000.0, "x")
	f.Add("hxyz 10", -1.76e15, "h")
	f.Add("hxyz 0x1", -1.0, "h")
	f.Add("h 5 5", -1.0, "")
	f.Add("rabc", -6.3e15, "h")
	f.Add("balance", 1e9, "h")
	f.Add("held", 9.0, "h")
	f.Add("held", -9.0, "h")
	f.Add("dabc - reserve done 10 90 10 1 9e15", -6.3e15, "h")
	client := testkit.Memory(f).Client(f)
	f.Fuzz(func(t *testing.T, member string, score float64, id string) {
		ctx := context.Background()
		if score != score {
			return
		}
		x := teller{t, open(t, client, "weir")}
		defer client.FlushAll(ctx)
		x.topUp("a", 100, "")
		x.reserve("a", 10, "h")
		key := testkit.OnlyKey(t, client, "weir")
		if err := client.ZAdd(ctx, key, redis.Z{Score: score, Member: member}).Err(); err != nil {
			return
		}
		sum := func() (total float64) {
			return client.ZScore(ctx, key, "balance").Val() + client.ZScore(ctx, key, "held").Val()
		}
		had := sum()
		before := dump(t, client, key)
		for _, call := range []func() (quota.Receipt, error){
			func() (quota.Receipt, error) { return x.l.Deduct(ctx, "a", 1, id) },
			func() (quota.Receipt, error) { return x.l.Commit(ctx, "a", "h", 3) },
			func() (quota.Receipt, error) { return x.l.Cancel(ctx, "a", "h") },
			func() (quota.Receipt, error) { return x.l.Balance(ctx, "a") },
		} {
			switch r, err := call(); {
			case errors.Is(err, quota.ErrCorrupt):
				if after := dump(t, client, key); after != before {
					t.Fatalf("%q %v: ErrCorrupt, and %s became %s", member, score, before, after)
				}
			case err != nil && !errors.Is(err, quota.ErrReused):
				t.Fatalf("%q %v: %v", member, score, err)
			case float64(r.Balance)+float64(r.Held) > had:
				t.Fatalf("%q %v: %+v; had %v", member, score, r, had)
			}
			before = dump(t, client, key)
		}
	})
}
