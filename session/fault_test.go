package session_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/scs/v2/memstore"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

func inc(old any) any { n, _ := old.(int); return n + 1 }

// a bound session that is written to more often than each tenth of idle.
func TestFault_activeWriterLoggedOut(t *testing.T) {
	for _, how := range []string{"put", "update", "read", "twoUsers"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, testkit.Memory(t).Client(t))
				token := loginAs(t, m, "", "alice")
				for i := range 90 {
					time.Sleep(time.Minute)
					v := visit(m, token)
					if m.User(v) != "alice" {
						t.Fatalf("logged out after %d minutes of a request each minute", i+1)
					}
					switch how {
					case "put":
						m.Put(v, "n", i)
					case "update":
						if err := m.Update(v, "n", inc); err != nil {
							t.Fatal(err)
						}
					}
					commit(t, v)
				}
			})
		})
	}
}

// logout beside a periodic renewal.
func TestFault_logoutBesideRenewal(t *testing.T) {
	for _, bound := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t, testkit.Memory(t).Client(t), session.WithRenewal(10*time.Minute))
			old := login(t, m, "alice")
			if bound {
				old = loginAs(t, m, old, "alice")
			}
			time.Sleep(11 * time.Minute)
			out := visit(m, old)
			m.Get(out, "user") // loaded
			v := visit(m, old)
			m.Get(v, "user")
			c, err := v.Commit() // renewed
			if err != nil || c == nil {
				t.Fatal(c, err)
			}
			if err := m.Destroy(out); err != nil { // acknowledged
				t.Fatal(err)
			}
			commit(t, out)
			if got := m.GetString(visit(m, c.Value), "user"); got != "" {
				t.Errorf("bound %v: after the logout the renewed token is %q", bound, got)
			}
		})
	}
}

// renewal extends the absolute deadline of remembered sessions.
func TestFault_rememberedNeverEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, testkit.Memory(t).Client(t), session.WithRememberMe(5*24*time.Hour, 30*24*time.Hour), session.WithRenewal(time.Hour))
		v := visit(m, "")
		m.Put(v, "user", "alice")
		m.RememberMe(v, true)
		c, err := v.Commit()
		if err != nil || c == nil {
			t.Fatal(c, err)
		}
		token := c.Value
		for day := range 100 {
			time.Sleep(24 * time.Hour)
			v := visit(m, token)
			if m.GetString(v, "user") == "" {
				t.Logf("ended on day %d", day+1)
				return
			}
			if c, err := v.Commit(); err != nil {
				t.Fatal(err)
			} else if c != nil {
				token = c.Value
			}
		}
		t.Error("still alive after 100 days; WithRememberMe's lifetime is 30")
	})
}

// what Update has met of others is lost by a rotation.
func TestFault_rotationLosesOthers(t *testing.T) {
	for _, how := range []string{"RenewToken", "Login", "renewal"} {
		for _, by := range []string{"Update", "Commit"} {
			t.Run(how+"/"+by, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var opts []session.Option
					if how == "renewal" {
						opts = append(opts, session.WithRenewal(10*time.Minute))
					}
					m := newManager(t, testkit.Memory(t).Client(t), opts...)
					token := login(t, m, "alice")
					v := visit(m, token)
					m.Get(v, "user")
					other := visit(m, token)
					m.Put(other, "theirs", 1)
					commit(t, other)
					if by == "Update" {
						if err := m.Update(v, "n", inc); err != nil {
							t.Fatal(err)
						}
					} else {
						m.Put(v, "n", 1)
						if _, _, err := m.Commit(v); err != nil {
							t.Fatal(err)
						}
					}
					switch how {
					case "RenewToken":
						if err := m.RenewToken(v); err != nil {
							t.Fatal(err)
						}
					case "Login":
						if err := m.Login(v, "alice"); err != nil {
							t.Fatal(err)
						}
					case "renewal":
						time.Sleep(11 * time.Minute)
					}
					c, err := v.Commit()
					if err != nil || c == nil {
						t.Fatal(c, err)
					}
					if v := visit(m, c.Value); m.GetInt(v, "theirs") != 1 || m.GetInt(v, "n") != 1 {
						t.Errorf("got keys %v; theirs was acknowledged and is lost", m.Keys(v))
					}
				})
			})
		}
	}
}

// a value changed in place after Update, and put.
func TestFault_inPlaceAfterUpdate(t *testing.T) {
	m := newManager(t, testkit.Mini(t).Client(t))
	token := login(t, m, "alice")
	v := visit(m, token)
	if err := m.Update(v, "list", func(any) any { return []string{"x"} }); err != nil {
		t.Fatal(err)
	}
	l := m.Get(v, "list").([]string)
	l[0] = "y"
	m.Put(v, "list", l)
	commit(t, v)
	if got := fmt.Sprint(m.Get(visit(m, token), "list")); got != "[y]" {
		t.Errorf("got %s; want [y]", got)
	}
}

func TestFault_updateAppliesTwice(t *testing.T) {
	m := newManager(t, testkit.Mini(t).Client(t))
	token := login(t, m, "alice")
	v := visit(m, token)
	m.Put(v, "list", []int{0})
	other := visit(m, token)
	m.Put(other, "x", 1)
	commit(t, other)
	if err := m.Update(v, "list", func(old any) any { l := old.([]int); l[0]++; return l }); err != nil {
		t.Fatal(err)
	}
	commit(t, v)
	if got := fmt.Sprint(m.Get(visit(m, token), "list")); got != "[1]" {
		t.Errorf("got %s; want [1]", got)
	}
}

// after Destroy User says the old one
func TestFault_userAfterDestroy(t *testing.T) {
	m := newManager(t, testkit.Mini(t).Client(t))
	v := visit(m, loginAs(t, m, "", "alice"))
	if err := m.Destroy(v); err != nil {
		t.Fatal(err)
	}
	if got := m.User(v); got != "" {
		t.Errorf("destroyed, and yet %q", got)
	}
	m.Put(v, "flash", "bye")
	commit(t, v)
	if got := m.User(v); got != "" {
		t.Errorf("a new session, and yet %q", got)
	}
}

// Load + Commit by a job, and m.Commit after the header, renew the token behind the browser's back.
func TestFault_jobRenews(t *testing.T) {
	for _, how := range []string{"job", "stream"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, testkit.Memory(t).Client(t), session.WithRenewal(10*time.Minute))
				token := login(t, m, "alice")
				if how == "job" {
					time.Sleep(11 * time.Minute)
					ctx, err := m.Load(t.Context(), token)
					if err != nil {
						t.Fatal(err)
					}
					m.Put(ctx, "job", "done")
					if _, _, err := m.Commit(ctx); err != nil {
						t.Fatal(err)
					}
				} else {
					v := visit(m, token)
					m.Get(v, "user")
					commit(t, v)
					time.Sleep(11 * time.Minute)
					m.Put(v, "progress", 50)
					if _, _, err := m.Commit(v); err != nil {
						t.Fatal(err)
					}
					if err := v.Finish(); err != nil {
						t.Logf("finish: %v", err)
					}
				}
				time.Sleep(31 * time.Second)
				if got := m.GetString(visit(m, token), "user"); got != "alice" {
					t.Errorf("the browser's token is %q 31 s later; want alice", got)
				}
			})
		})
	}
}

// a login from a bound session of the same user
func TestFault_reloginCountsItself(t *testing.T) {
	for _, full := range []session.WhenFull{session.EvictOldest, session.RefuseNew} {
		m := newManager(t, testkit.Mini(t).Client(t), session.WithMaxSessions(2, full))
		first := loginAs(t, m, "", "alice")
		second := loginAs(t, m, "", "alice")
		v := visit(m, second)
		err := m.Login(v, "alice") // once more, for a privileged action
		if _, err2 := v.Commit(); err != nil || err2 != nil {
			t.Errorf("%v: got %v, %v", full, err, err2)
		}
		if got := userOf(m, first); got != "alice" {
			t.Errorf("%v: the other device is %q; alice had 2 sessions of 2 all the time", full, got)
		}
	}
}

// failed login extends
func TestFault_failedLoginExtends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, testkit.Memory(t).Client(t), session.WithMaxSessions(1, session.RefuseNew), session.WithIdleTimeout(24*time.Hour), session.WithRememberMe(30*24*time.Hour, 30*24*time.Hour), session.WithRenewal(time.Hour))
		v := visit(m, "")
		m.Put(v, "user", "guest")
		m.RememberMe(v, true)
		c, err := v.Commit()
		if err != nil {
			t.Fatal(err)
		}
		loginAs(t, m, "", "alice")
		v = visit(m, c.Value)
		before := m.Deadline(v)
		time.Sleep(2 * time.Hour)
		v = visit(m, c.Value)
		if err := m.Login(v, "alice"); !errors.Is(err, session.ErrTooMany) {
			t.Fatal(err)
		}
		c2, err := v.Commit()
		if err != nil {
			t.Fatal(err)
		}
		if c2 == nil {
			t.Error("the failed login put the renewal off, which was due")
		} else {
			c = c2
		}
		if got := m.Deadline(visit(m, c.Value)); !got.Equal(before) {
			t.Errorf("the failed login moved the absolute deadline from %v to %v", before, got)
		}
	})
}

// foreign store: Iterate revives
func TestFault_foreignIterateRevives(t *testing.T) {
	store := memstore.NewWithCleanupInterval(0)
	m := newManager(t, testkit.Mini(t).Client(t), session.WithStore(store))
	token := login(t, m, "alice")
	err := m.Iterate(t.Context(), func(ctx context.Context) error {
		store.Delete(keyOf(token)[len("scs:session:"):]) // expires, or its mark has
		m.Put(ctx, "x", 1)
		_, _, err := m.Commit(ctx)
		return err
	})
	if got := m.GetString(visit(m, token), "user"); got != "" {
		t.Errorf("%v: back from the dead: %q", err, got)
	}
}

// a job's or an iteration's touch wipes IP and device
func TestFault_labelLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, testkit.Memory(t).Client(t))
		token := loginAs(t, m, "", "alice")
		time.Sleep(10 * time.Minute)
		ctx, err := m.Load(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		m.Put(ctx, "job", 1)
		if _, _, err := m.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		if infos := list(t, m, token, "alice"); len(infos) != 1 || infos[0].IP == "" {
			t.Errorf("got %+v; want an IP", infos)
		}
	})
}

// EndAll and Login in one request: a password reset.
func TestFault_resetPassword(t *testing.T) {
	m := newManager(t, testkit.Mini(t).Client(t))
	loginAs(t, m, "", "alice")
	v := visit(m, "")
	if err := m.EndAll(v, "alice"); err != nil {
		t.Fatal(err)
	}
	if err := m.Login(v, "alice"); err != nil {
		t.Errorf("got %v", err)
	}
}

// one corrupt index stops Iterate
func TestFault_iterateCorruptIndex(t *testing.T) {
	b := testkit.Shared(t, "server")
	rdb := b.Client(t)
	prefix := b.Prefix(t)
	m := newManager(t, rdb, session.WithPrefix(prefix))
	before := testkit.Keys(t, rdb, "weir:session-user")
	loginAs(t, m, "", prefix+"alice")
	for _, key := range testkit.Keys(t, rdb, "weir:session-user") {
		t.Log(key, slices.Contains(before, key))
		if !slices.Contains(before, key) && len(key) > 4 && key[len(key)-4:] == ":ids" {
			rdb.Del(t.Context(), key)
			rdb.Set(t.Context(), key, "x", time.Minute)
		}
	}
	login(t, m, "bob")
	n := 0
	err := m.Iterate(t.Context(), func(context.Context) error { n++; return nil })
	if err != nil || n != 1 {
		t.Errorf("got %d, %v; want 1 session", n, err)
	}
}

// A commit that failed and is tried again.
func TestFault_commitAgain(t *testing.T) {
	b := testkit.Shared(t, "server")
	for _, kind := range []string{"new", "renewed"} {
		p := testkit.NewProxy(t, b.Addrs()[0])
		m, err := session.New(p.Client(t), session.WithTimeout(300*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		good := newManager(t, b.Client(t))
		token := ""
		if kind == "renewed" {
			token = login(t, m, "guest")
			login(t, m, "x")
		}
		v := visit(m, token)
		m.Get(v, "user")
		if kind == "renewed" {
			m.RenewToken(v)
		}
		m.Put(v, "user", "alice")
		p.SwallowReply(2, "evalsha", testkit.ThenClose)
		_, _, err = m.Commit(v)
		p.Heal()
		m.Put(v, "more", 1)
		c, err2 := v.Commit()
		t.Logf("%s: first %v; then cookie %v, %v, warning %v", kind, err, c != nil, err2, v.Warning())
		if err2 == nil && (c == nil || good.GetString(visit(good, c.Value), "user") != "alice") {
			t.Errorf("%s: the login is lost and no error told", kind)
		}
	}
}
