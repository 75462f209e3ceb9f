package middleware_test

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// wave sends 20 users at once to one URL, and returns how long the slowest took. Each
// must be given what was made for them, and no cookie of another's.
func (c *chain) wave(kind, path string) time.Duration {
	c.t.Helper()
	took := make([]time.Duration, 20)
	c.together(len(took), func(i int) {
		user := fmt.Sprint("user-", i)
		fields := []string{"X-User", user}
		switch kind {
		case "authorization":
			fields = append(fields, "Authorization", "Bearer "+user)
		case "vary-cookie":
			fields = append(fields, "Cookie", "user="+user)
		}
		s, err := c.get(c.t.Context(), i, path, fields...)
		if err != nil {
			c.t.Error(err)
			return
		}
		var n int
		if _, err := fmt.Sscanf(s.body, path+` for "`+user+`", call %d`, &n); err != nil {
			c.t.Errorf("%s got %q", user, s.body)
		}
		if cookie := s.header["Set-Cookie"]; kind == "cookie" && (len(cookie) != 1 || cookie[0] != "user="+user) || kind != "cookie" && cookie != nil {
			c.t.Errorf("%s of %s got cookies %q", user, kind, cookie)
		}
		took[i] = s.took
	})
	return slices.Max(took)
}

// Twenty users at once on one URL whose answer is each one's own, for whatever reason:
// none is given another's. Whoever comes first cannot know that, and the others wait for
// them once; afterwards nobody waits for anybody. The long form has 1,000 rounds of each
// kind, and ten whose handler takes 300 ms, of which the times are checked against those of
// as many past the cache.
//
// Red when variant is the same for all, or pass.lua forgets what may not be kept.
func TestCache_privacy(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes several processes")
	}
	for _, test := range []struct {
		processes int
		rfc, near bool
	}{{1, false, true}, {4, false, true}, {4, true, false}} {
		t.Run(fmt.Sprintf("%d processes, RFC profile %t", test.processes, test.rfc), func(t *testing.T) {
			for _, timed := range []bool{false, true} {
				rounds, origin := campaign(5, 1000), time.Millisecond
				if timed {
					rounds, origin = campaign(0, 10), 300*time.Millisecond
				}
				if rounds == 0 {
					continue
				}
				c := openChain(t, test.processes, storefront{Near: test.near, RFC: test.rfc, Origin: origin})
				for kind := range madeFor {
					if kind == "cookie" && test.rfc {
						continue // that profile shares cookies, as RFC 9111 allows
					}
					var first, second []time.Duration
					var slowest time.Duration
					for round := range rounds {
						path := fmt.Sprintf("/%s/%d", kind, round)
						bare := time.Duration(0)
						if timed {
							bare = c.bare(20)
							slowest = max(slowest, bare)
						}
						first = append(first, c.wave(kind, path)-2*bare)
						second = append(second, c.wave(kind, path)-bare)
						if t.Failed() {
							return
						}
					}
					if timed {
						t.Logf("%s: the slowest of 20 beyond 2 × the bare handler: %s; then beyond it: %s", kind, spread(first), spread(second))
						if !c.idle(slowest, 50*time.Millisecond) {
							continue
						}
						c.bounded("the slowest of the first wave", slices.Max(first), 50*time.Millisecond)
						c.bounded("the slowest of the second wave", slices.Max(second), 50*time.Millisecond)
					}
				}
				c.children.Stop()
			}
		})
	}
}
