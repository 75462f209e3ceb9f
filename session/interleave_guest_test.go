package session_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-weir/weir/session"
)

// guest is a visit under way.
type guest struct {
	name      string
	m         *session.Manager
	v         *session.Visit
	jar       int
	sent      string // the token it came with
	s         *soul  // nil: nobody
	token     string
	id        string
	pending   map[string]int
	count     int
	renew     bool
	over      bool
	warned    bool
	committed bool
	began     time.Time
	cleared   string // whose sessions it has ended all
	renewed   time.Time
	nth       int       // of the begins
	seen      time.Time // when it looked: a commit without changes counts as of then
	steps     int
}

func (g *guest) take(s *soul) {
	maps.Copy(s.keys, g.pending)
	s.count += g.count
	g.pending, g.count = map[string]int{}, 0
}

// valid says whether what a guest writes must be kept, and whether that is certain.
func (w *world) valid(g *guest) (ok, sure bool) {
	if g.s == nil || g.over {
		return false, true
	}
	s, sure := w.resolve(g.token)
	return s == g.s && s != nil, sure
}

func (w *world) begin(name string) *guest {
	g := &guest{name: name, m: w.ms[w.rng.IntN(3)], jar: w.rng.IntN(3), pending: map[string]int{}, steps: 1 + w.rng.IntN(2), began: w.now()}
	g.sent = w.jars[g.jar]
	if len(w.souls) > 0 && w.rng.IntN(4) == 0 { // a copy of a token from anywhere
		all := slices.Sorted(maps.Keys(w.tokens))
		g.sent = all[w.rng.IntN(len(all))]
	}
	g.v = visit(g.m, g.sent)
	w.begins++
	g.nth = w.begins
	return g
}

func (w *world) see(g *guest, unsure bool) {
	g.s = w.look(g.m, g.v, g.sent, unsure)
	g.token, g.id, g.seen = g.m.Token(g.v), g.m.ID(g.v), w.now()
}

func (w *world) warned(g *guest) bool {
	if g.warned || !errors.Is(g.v.Warning(), session.ErrEnded) {
		return false
	}
	g.warned = true
	return true
}

func (w *world) change(g *guest) {
	ctx := context.Background()
	any := func() *soul { return w.souls[w.rng.IntN(len(w.souls))] }
	switch op := w.rng.IntN(20); {
	case op < 5 || len(w.souls) == 0:
		w.put(g)
	case op < 8:
		w.update(g)
	case op < 10:
		if err := g.m.RenewToken(g.v); err != nil {
			w.fail("RenewToken: %v", err)
		}
		g.renew, g.renewed = true, w.now()
		w.note("%s renews its token", g.name)
		w.put(g)
	case op < 13:
		w.login(g)
	case op < 15:
		w.destroy(g)
	case op < 16:
		if s := any(); s.id != "" {
			w.end(g.m, s)
		}
	case op < 17:
		w.endAll(g, ctx)
	case op < 18:
		w.endOthers(g)
	case op < 19:
		w.del(any())
	default:
		w.age(any())
	}
}

func (w *world) put(g *guest) {
	w.serial++
	key := fmt.Sprint("k", w.serial)
	g.m.Put(g.v, key, w.serial)
	g.pending[key] = w.serial
	w.note("%s puts %s", g.name, key)
}

func (w *world) update(g *guest) {
	ok, sure := w.valid(g)
	local := g.s == nil
	err := g.m.Update(g.v, "n", inc)
	w.note("%s updates: %v", g.name, err)
	if w.disturb && g.s != nil {
		ok, sure = w.valid(g)
		sure = sure && len(w.killed) == 0
	}
	switch {
	case local && err == nil:
		g.count++
	case local && errors.Is(err, session.ErrEnded): // of one that has logged in elsewhere
	case err == nil && (ok || !sure):
		g.s.count++
		g.s.used = w.now()
		g.token = g.s.token // it has followed where the session has moved
	case errors.Is(err, session.ErrEnded) && (!ok || !sure):
		g.over = true
	default:
		w.fail("update: got %v; a session that lives: %v", err, ok)
	}
}

func (w *world) commit(g *guest) {
	ok, sure := w.valid(g)
	c, err := g.v.Commit()
	g.committed = true
	ended := w.warned(g)
	cookie := ""
	if c != nil {
		cookie = c.Value
	}
	w.note("%s commits: cookie %.4s, %v, ended %v", g.name, cookie, err, ended)
	if err != nil {
		w.fail("commit: %v", err)
		return
	}
	if w.disturb && g.s != nil {
		var sure2 bool
		before := ok
		ok, sure2 = w.valid(g)
		sure = sure && sure2 && len(w.killed) == 0
		ok = ok || before && !sure
	}
	changed := len(g.pending) > 0 || g.count > 0 || g.renew
	switch {
	case g.s == nil:
		if changed && cookie == "" && !ended && w.now().Sub(g.seen) < worldLife {
			w.fail("a new session: neither a cookie nor a warning")
		}
		if cookie != "" {
			g.s = w.soulOf(cookie, "", "")
			g.s.deadline = g.seen.Add(worldLife)
			if g.renew { // RenewToken begins the absolute timeout anew, also of what is not stored yet
				g.s.deadline = g.renewed.Add(worldLife)
			}
			g.take(g.s)
		}
	case ended:
		if ok && sure {
			w.fail("a change is lost though the session lives")
		}
		if cookie != "" {
			w.fail("ended, and a cookie")
		}
	case !ok && sure:
		if changed && !w.disturb && w.now().Before(g.s.deadline.Add(-2*time.Second)) {
			w.fail("acknowledged, though the session has ended")
		}
		if cookie != "" && w.tokens[cookie] == nil && !w.disturb {
			w.fail("a new token for a session that has ended")
		}
		if cookie != "" && w.tokens[cookie] == nil {
			w.tokens[cookie] = g.s // dead
		}
	default:
		w.acknowledge(g, cookie, sure && changed)
	}
	if c != nil {
		if w.rng.IntN(8) > 0 { // or it is lost
			w.jars[g.jar] = cookie
		}
	}
	g.renew = false
}

// acknowledge notes what a commit has kept, and which token it gave.
func (w *world) acknowledge(g *guest, cookie string, lives bool) {
	s := g.s
	how := w.killed[s]
	g.take(s)
	if lives {
		s.used = w.now()
	} else if g.seen.After(s.used) {
		s.used = g.seen
	}
	switch {
	case cookie == "" || cookie == s.token:
		if g.renew {
			w.fail("RenewToken: no new cookie: %q", cookie)
		}
		if how == "del" || how == "logout" && w.disturb && !s.alive && cookie != "" {
			// It came after the write.
			return
		}
		return
	case g.renew:
		s.deadline = g.renewed.Add(worldLife)
		if how != "" && s.id == "" || how == "del" {
			s.alive, s.doubt = true, true // whichever came first
		}
	case w.tokens[cookie] != nil:
		return // it was told where the session has moved
	default:
		w.moves[s.token] = move{cookie, w.now()}
		if how == "del" {
			s.alive, s.doubt = true, true
		}
	}
	s.token = cookie
	w.tokens[cookie] = s
	g.token = cookie
}

func (w *world) del(s *soul) {
	if !s.alive {
		return
	}
	if s.listed && !w.timed { // the index is evicted
		w.plain.Del(context.Background(), "weir:session-user:{"+s.token[59:]+"}:ids")
		w.note("DEL of the index of %s", s.user[len(s.user)-1:])
		for _, other := range w.souls {
			if other.listed && other.user == s.user {
				w.kill(other, "end all")
				other.listed = false
			}
		}
		return
	}
	w.plain.Del(context.Background(), w.prefix+keyOf(s.token)[len("scs:session"):])
	w.note("DEL of %s's", s.token[:4])
	w.kill(s, "del") // but its id is listed until it would have expired
}

// age has a token look old enough for a renewal.
func (w *world) age(s *soul) {
	if w.timed || s.aged || !s.alive || s.doubt {
		return
	}
	s.aged = true
	m := w.ms[w.rng.IntN(3)]
	v := visit(m, s.token)
	m.Put(v, "__weir.born", int64(1))
	v.KeepToken()
	if _, err := v.Commit(); err != nil {
		w.fail("age: %v", err)
	}
	w.note("%s's token is old", s.token[:4])
}
