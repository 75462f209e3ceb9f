package ratelimit_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

// However far a process's clock is from Redis's, it decides the same: the clock
// that counts is Redis's. Here one process is an hour behind, one is not, and one
// is an hour and a day ahead.
//
// Red when the script, or MULTI's score, takes a time of this process's.
func TestLimiter_clockSkew(t *testing.T) {
	t.Parallel()
	modes := map[string][]ratelimit.Option{
		"scripts": {ratelimit.WithDenyCache(0), ratelimit.PerHour(90).Smooth(9)},
		"multi":   {ratelimit.WithDenyCache(0), ratelimit.WithoutScripts()},
	}
	for mode, options := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			var verdicts [][]ratelimit.Result
			for _, skew := range []time.Duration{-time.Hour, 0, time.Hour, 25 * time.Hour} {
				verdicts = append(verdicts, atSkew(t, skew, options))
			}
			allowed := 0
			for i, v := range verdicts[1:] {
				for j := range v {
					if got, want := v[j], verdicts[0][j]; got.Allowed != want.Allowed || got.Limit != want.Limit || got.Remaining != want.Remaining ||
						(got.RetryAfter-want.RetryAfter).Abs() > time.Second {
						t.Fatalf("clock %d, request %d: %s; want %s", i+2, j+1, show(got), show(want))
					}
					if v[j].Allowed {
						allowed++
					}
				}
			}
			if allowed < 50 || allowed > 3*len(verdicts[0])*9/10 {
				t.Errorf("%d of %d were allowed: the requests tell nothing", allowed, 3*len(verdicts[0]))
			}
		})
	}
}

// atSkew makes the same requests against a Redis whose clock is so far ahead of
// this process's.
func atSkew(t *testing.T, skew time.Duration, options []ratelimit.Option) (verdicts []ratelimit.Result) {
	b := testkit.Mini(t)
	limiter := open(t, b.Client(t), "weir", ratelimit.PerMinute(7), slices.Clone(options)...)
	random := rand.New(rand.NewPCG(6, 6))
	now := time.Now().Add(skew).Truncate(time.Hour)
	for range 150 {
		b.Miniredis().SetTime(now)
		verdicts = append(verdicts, allow(t, limiter, "alice"))
		now = now.Add(time.Duration(random.Int64N(int64(12 * time.Second))))
	}
	return verdicts
}
