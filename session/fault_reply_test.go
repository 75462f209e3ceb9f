package session_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

// ageing has the session of a token look as if its token were old: WithRenewal's least
// is a minute.
func ageing(t *testing.T, m *session.Manager, token string) {
	t.Helper()
	v := visit(m, token)
	m.Put(v, "__weir.born", time.Now().Add(-time.Hour).Unix())
	v.KeepToken()
	commit(t, v)
}

// looked is a visit that has looked, by a manager whose budget a busy machine exceeds.
func looked(t *testing.T, m *session.Manager, token string) (v *session.Visit) {
	t.Helper()
	testkit.Eventually(t, "a look", func() bool {
		v = visit(m, token)
		return v.Ready() == nil
	})
	return v
}

// The n-th script of a request loses its reply and the connection stays silent: what is
// left of the session?
func TestFault_lostReplies(t *testing.T) {
	b := testkit.Shared(t, "server")
	for _, bound := range []bool{false, true} {
		for _, what := range []string{"renewal", "RenewToken", "Login", "Destroy"} {
			for _, then := range []testkit.Then{testkit.ThenClose, testkit.ThenSilence} {
				for step := 1; step <= 4; step++ {
					for _, often := range []int{1, 2} {
						name := fmt.Sprintf("bound:%v/%s/then:%v/step:%d/often:%d", bound, what, then, step, often)
						t.Run(name, func(t *testing.T) {
							p := testkit.NewProxy(t, b.Addrs()[0])
							client := p.Client(t)
							m, err := session.New(client, session.WithTimeout(100*time.Millisecond), session.WithRenewal(time.Minute))
							if err != nil {
								t.Fatal(err)
							}
							good := newManager(t, b.Client(t), session.WithRenewal(time.Minute))
							user := b.Prefix(t)
							// warm
							w := loginAs(t, good, login(t, good, "x"), user+"w")
							ageing(t, good, w)
							_, _ = looked(t, m, w).Commit()
							token := login(t, good, "alice")
							if bound {
								token = loginAs(t, good, token, user)
							}
							ageing(t, good, token)

							v := looked(t, m, token)
							if m.GetString(v, "user") != "alice" {
								t.Fatal("not alice")
							}
							p.Reset()
							// let step-1 scripts pass, then lose the next ones
							h := &nth{n: step, often: often, p: p, then: then}
							client.AddHook(h)
							var err1 error
							switch what {
							case "renewal":
							case "RenewToken":
								err1 = m.RenewToken(v)
								m.Put(v, "level", 1)
							case "Login":
								err1 = m.Login(v, user+"2")
							case "Destroy":
								err1 = m.Destroy(v)
							}
							c, err2 := v.Commit()
							h.off()
							p.Heal()
							cookie := token
							if err2 == nil && c != nil {
								cookie = c.Value
							}
							now := visit(good, cookie)
							got := good.GetString(now, "user")
							good.Commit(now)
							t.Logf("swallowed %d: %v / %v, cookie %v, warning %v; the browser is now %q", p.Swallowed(), err1, err2, c != nil, v.Warning(), got)
							if what == "Destroy" {
								if err1 == nil && got != "" {
									t.Error("acknowledged, and alive")
								}
								return
							}
							if got != "alice" {
								if err1 == nil && err2 == nil {
									t.Error("LOST, and no error told")
								} else {
									t.Log("lost, with an error told")
								}
							}
						})
					}
				}
			}
		}
	}
}
