package session_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

// On a cluster the index's master refuses between claim and rebind of a periodic
// renewal: a mere look.
func TestFault_clusterRenewalLosesSession(t *testing.T) {
	b := testkit.Cluster3(t)
	for _, how := range []string{"oom", "breaker"} {
		t.Run(how, func(t *testing.T) {
			lost, kept := 0, 0
			for i := 0; lost+kept < 4; i++ {
				client, ps := b.ProxiedClient(t)
				direct := b.Client(t)
				cluster := direct.(*redis.ClusterClient)
				m, err := session.New(client, session.WithTimeout(100*time.Millisecond), session.WithRenewal(time.Minute))
				if err != nil {
					t.Fatal(err)
				}
				good := newManager(t, direct, session.WithRenewal(time.Minute))
				user := b.Prefix(t) + fmt.Sprint(i)
				token := loginAs(t, good, login(t, good, "alice"), user)
				ageing(t, good, token)
				vv := looked(t, m, token)
				if m.GetString(vv, "user") != "alice" {
					t.Fatal("not alice")
				}
				tagKey := "weir:session-user:{" + token[59:] + "}:ids"
				index, err1 := cluster.MasterForKey(t.Context(), tagKey)
				own, err2 := cluster.MasterForKey(t.Context(), keyOf(token))
				if err1 != nil || err2 != nil {
					t.Fatal(err1, err2)
				}
				addr := index.Options().Addr
				if own.Options().Addr == addr {
					continue
				}
				var p *testkit.Proxy
				for j, n := range b.Nodes() {
					if n.Addr() == addr {
						p = ps[j]
					}
				}
				if how == "oom" {
					index.ConfigSet(t.Context(), "maxmemory", "1mb")
				} else {
					p.Hang()
					for range 20 {
						_ = visit(m, token).Ready()
					}
				}
				c, err := vv.Commit()
				index.ConfigSet(t.Context(), "maxmemory", "0")
				p.Heal()
				if err == nil && c != nil {
					t.Fatal("renewed all the same")
				}
				if err != nil && strings.Contains(err.Error(), "create") {
					continue // the new name was on that master, too
				}
				got := good.GetString(visit(good, token), "user")
				if got != "alice" {
					lost++
				} else {
					kept++
				}
				t.Logf("err %v: the browser's token is now %q", err, got)
			}
			if lost > 0 {
				t.Errorf("lost %d of %d sessions by a look", lost, lost+kept)
			}
		})
	}
}

func TestFault_raceUserLogin(t *testing.T) {
	m := newManager(t, testkit.Mini(t).Client(t))
	v := visit(m, login(t, m, "x"))
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 20 {
			m.Login(v, "alice")
		}
	})
	for range 4 {
		wg.Go(func() {
			for range 2000 {
				m.User(v)
			}
		})
	}
	wg.Wait()
}

func TestFault_raceDestroyLogin(t *testing.T) {
	m := newManager(t, testkit.Mini(t).Client(t))
	v := visit(m, loginAs(t, m, "", "x"))
	var wg sync.WaitGroup
	wg.Go(func() { m.Login(v, "alice") })
	wg.Go(func() { time.Sleep(200 * time.Microsecond); m.Destroy(v) })
	wg.Go(func() { m.EndOthers(v) })
	wg.Wait()
}

func TestFault_oom(t *testing.T) {
	if testing.Short() {
		t.Skip()
	}
	b := testkit.Server(t, "--maxmemory-policy", "noeviction")
	rdb := b.Client(t)
	m := newManager(t, rdb)
	renewing := newManager(t, rdb, session.WithRenewal(time.Minute))
	anonymous := login(t, m, "guest")
	var tokens []string
	for range 6 {
		tokens = append(tokens, loginAs(t, m, "", "alice"))
	}
	v := visit(m, tokens[0])
	m.Put(v, "__weir.born", int64(1))
	commit(t, v)
	id := m.ID(visit(m, tokens[1]))
	// warm scripts
	w := loginAs(t, m, login(t, m, "x"), "w")
	m.End(t.Context(), "w", m.ID(visit(m, w)))
	m.EndAll(t.Context(), "w")
	if err := rdb.ConfigSet(t.Context(), "maxmemory", "1mb").Err(); err != nil {
		t.Fatal(err)
	}
	if err := rdb.Set(t.Context(), "x", "y", time.Minute).Err(); err == nil {
		t.Fatal("not out of memory")
	}
	v = visit(renewing, tokens[0])
	renewing.User(v)
	_, err := v.Commit()
	t.Logf("a look, renewal due: %v", err)
	if err != nil {
		t.Errorf("a look at a session fails: %v", err)
	}
	ok, err := m.End(t.Context(), "alice", id)
	if !ok || err != nil {
		t.Errorf("End: got %v, %v", ok, err)
	}
	v = visit(m, tokens[2])
	m.User(v)
	if err := m.Destroy(v); err != nil {
		t.Errorf("Destroy of a bound session: %v; it is now %q", err, userOf(m, tokens[2]))
	}
	v = visit(m, anonymous)
	m.Get(v, "user")
	if err := m.Destroy(v); err != nil {
		t.Errorf("Destroy: %v; it is now %q", err, m.GetString(visit(m, anonymous), "user"))
	}
	if err := m.EndOthers(visit(m, tokens[3])); err != nil {
		t.Errorf("EndOthers: %v", err)
	}
	if err := m.EndAll(t.Context(), "alice"); err != nil {
		t.Errorf("EndAll: %v", err)
	}
	for i, token := range tokens {
		if got := userOf(m, token); got != "" {
			t.Errorf("%d is %q", i, got)
		}
	}
	// full: data of those that ended are gone?
	n := 0
	for _, token := range tokens {
		if isStored(t, rdb, keyOf(token)) {
			n++
		}
	}
	t.Logf("%d of %d ended sessions' data are still stored", n, len(tokens))
}

func TestFault_nilAndOdd(t *testing.T) {
	m := newManager(t, testkit.Mini(t).Client(t))
	token := login(t, m, "alice")
	v := visit(m, token)
	m.Put(v, "nil", nil)
	m.Put(v, "", "empty key")
	m.Put(v, "eb", []byte{})
	m.Put(v, "es", []string{})
	_, err := v.Commit()
	t.Logf("commit with nil: %v; keys %v", err, m.Keys(visit(m, token)))
	v = visit(m, token)
	t.Logf("%#v %#v", m.Get(v, "eb"), m.Get(v, "es"))
	if err := m.Update(v, "n", inc); err != nil {
		t.Error(err)
	}
	if err := m.Login(v, "alice"); err != nil {
		t.Error(err)
	}
	t.Log(m.Keys(v))
	c, err := v.Commit()
	if err != nil {
		t.Fatal(err)
	}
	t.Log(m.Keys(visit(m, c.Value)))
}

// pending takes what does not survive the codec as it is for the visit's own change.
func TestFault_updateStalePending(t *testing.T) {
	m := newManager(t, testkit.Mini(t).Client(t))
	token := login(t, m, "alice")
	v := visit(m, token)
	m.Put(v, "log", []string{})
	if _, _, err := m.Commit(v); err != nil {
		t.Fatal(err)
	}
	other := visit(m, token)
	add := func(s string) func(any) any {
		return func(old any) any { l, _ := old.([]string); return append(l[:len(l):len(l)], s) }
	}
	if err := m.Update(other, "log", add("theirs")); err != nil {
		t.Fatal(err)
	}
	commit(t, other)
	if err := m.Update(v, "log", add("mine")); err != nil {
		t.Fatal(err)
	}
	commit(t, v)
	if got := fmt.Sprint(m.Get(visit(m, token), "log")); got != "[theirs mine]" {
		t.Errorf("got %s", got)
	}
}

// A goroutine of the handler puts while another logs in.
func TestFault_putBesideLogin(t *testing.T) {
	m := newManager(t, testkit.Mini(t).Client(t))
	lost := 0
	for range 50 {
		v := visit(m, login(t, m, "x"))
		var wg sync.WaitGroup
		wg.Go(func() { m.Login(v, "alice") })
		wg.Go(func() { time.Sleep(300 * time.Microsecond); m.Put(v, "k", 1) })
		wg.Wait()
		c, err := v.Commit()
		if err != nil || c == nil {
			t.Fatal(c, err)
		}
		if m.GetInt(visit(m, c.Value), "k") != 1 {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("lost %d of 50", lost)
	}
}
