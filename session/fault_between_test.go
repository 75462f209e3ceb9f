package session_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

// script is what happens before the n-th call of a client to Redis.
type script struct {
	n     int
	deeds map[int]func()
}

func (s *script) next() {
	deed := s.deeds[s.n]
	s.n++
	if deed != nil {
		deed()
	}
}

func (s *script) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *script) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { s.next(); return next(ctx, cmd) }
}

func (s *script) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { s.next(); return next(ctx, cmds) }
}

// A request whose renewal or RenewToken is under way while another one renews the token,
// and then all of the user's sessions are ended, each between any two of its calls: its
// Commit is no error, and what it says holds. Red when Visit.rotate returns ErrEnded.
func TestFault_endedBesideRenewals(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"renewal", "RenewToken"} {
		for renewed := range 5 {
			for ended := renewed; ended < renewed+6; ended++ {
				t.Run(fmt.Sprintf("%s/renewed:%d/ended:%d", what, renewed, ended), func(t *testing.T) {
					t.Parallel()
					b := testkit.Mini(t)
					client, s := b.Client(t), new(script)
					client.AddHook(s)
					m := newManager(t, client, session.WithRenewal(time.Minute))
					other := newManager(t, b.Client(t), session.WithRenewal(time.Minute))
					token := loginAs(t, other, "", "alice")
					ageing(t, other, token)
					v := visit(m, token)
					m.Put(v, "n", 1)
					if what == "RenewToken" {
						if err := m.RenewToken(v); err != nil {
							t.Fatal(err)
						}
					}
					gone := false
					renew := func() {
						v := visit(other, token)
						other.Put(v, "other", 1)
						commit(t, v)
					}
					end := func() {
						if err := other.EndAll(t.Context(), "alice"); err != nil {
							t.Error(err)
						}
						gone = true
					}
					s.deeds = map[int]func(){s.n + renewed: renew, s.n + ended: end}
					if renewed == ended {
						s.deeds[s.n+renewed] = func() { renew(); end() }
					}
					c, err := v.Commit()
					if err != nil {
						t.Errorf("commit: got %v", err)
					}
					if c != nil && errors.Is(v.Warning(), session.ErrEnded) {
						t.Error("commit: a cookie, and that it has ended")
					}
					if !gone {
						end()
					}
					if c != nil && userOf(other, c.Value) != "" || userOf(other, token) != "" {
						t.Error("ended, and alive")
					}
				})
			}
		}
	}
}
