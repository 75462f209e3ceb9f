package session_test

import (
	"context"
	"errors"
	"time"

	"github.com/go-weir/weir/session"
)

func (w *world) login(g *guest) {
	user := w.users[w.rng.IntN(2)]
	ok, sure := w.valid(g)
	fresh := g.s == nil
	err := g.m.Login(g.v, user)
	w.note("%s logs in as %s: %v", g.name, user[len(user)-1:], err)
	beaten := w.now().Sub(g.began) > 58*time.Minute || !w.ended[user].IsZero() && !w.ended[user].Before(g.began.Add(-worldBudget-time.Second))
	if w.disturb && !fresh {
		ok, sure = w.valid(g)
		sure = sure && len(w.killed) == 0
	}
	if err == nil && !w.disturb && w.endedAt[user] >= g.nth && g.cleared != user && (fresh || g.s.user != user) {
		w.fail("a login that began before all of the user's sessions were ended")
	}
	switch {
	case err == nil && (fresh || ok || !sure):
		if fresh {
			g.s = w.soulOf(g.m.Token(g.v), user, g.m.ID(g.v))
		}
		s := g.s
		how := w.killed[s]
		s.user, s.id, s.token, s.listed = user, g.m.ID(g.v), g.m.Token(g.v), true
		s.used, s.deadline = w.now(), w.now().Add(worldLife)
		w.tokens[s.token] = s
		g.token, g.id, g.renew = s.token, s.id, false
		g.take(s)
		_, all := w.killed[nil] // an EndAll of this user came between: dead in any case
		switch {
		case all && !w.ended[user].Before(g.began):
			s.alive, s.listed = false, false
		case how != "":
			s.alive, s.doubt = true, true // the end was of the one before, or of this one
		}
	case errors.Is(err, session.ErrEnded) && (beaten || !fresh && (!ok || !sure)):
		if !fresh && !ok {
			g.over = true
		}
	case errors.Is(err, session.ErrEnded) && fresh && w.disturb:
	default:
		w.fail("login: got %v; over a live session: %v, beaten: %v", err, ok, beaten)
	}
	w.sync(user)
}

func (w *world) destroy(g *guest) {
	err := g.m.Destroy(g.v)
	w.note("%s logs out: %v", g.name, err)
	s := g.s
	if errors.Is(err, session.ErrUnavailable) && s != nil && g.id == "" && w.timed && w.now().Sub(g.began) >= worldGrace {
		if ok, sure := w.valid(g); ok && sure {
			w.fail("destroy: got %v; the session lives where it was", err)
		}
		return // and it was told so
	}
	if err != nil {
		w.fail("destroy: %v", err)
	}
	if s != nil {
		same := g.id != "" && g.id == s.id
		if !g.over && w.leads(g.token) || same {
			w.kill(s, "logout")
		}
		if same {
			s.listed = false
		}
	}
	g.s, g.id, g.token, g.renew, g.over, g.seen = nil, "", "", false, false, w.now()
	g.pending, g.count = map[string]int{}, 0
}

func (w *world) end(m *session.Manager, s *soul) {
	ok, err := m.End(context.Background(), s.user, s.id)
	w.note("end %s: %v %v", s.id, ok, err)
	if err != nil || ok != s.listed && !w.disturb && !w.timed {
		w.fail("end: got %v, %v; want %v", ok, err, s.listed)
	}
	if ok {
		w.kill(s, "end")
		s.listed = false
	}
}

func (w *world) endAll(g *guest, ctx context.Context) {
	user := w.users[w.rng.IntN(2)]
	own := g.s != nil && g.s.user == user && g.id == g.s.id && g.id != ""
	if w.rng.IntN(2) == 0 && !g.committed {
		ctx = g.v
	} else {
		own = false
	}
	err := g.m.EndAll(ctx, user)
	w.note("end all of %s (own %v): %v", user[len(user)-1:], own, err)
	if err != nil {
		w.fail("end all: %v", err)
	}
	w.ended[user], w.endedAt[user] = w.now(), w.begins
	g.cleared = ""
	if ctx == context.Context(g.v) { // its own login is not one of those under way
		g.cleared = user
	}
	w.killed[nil] = "all"
	for _, s := range w.souls {
		if s.user == user && s.id != "" {
			w.kill(s, "end all")
			s.listed = false
		}
	}
	if ctx == context.Context(g.v) && g.m.Status(g.v) == 2 { // the browser is told
		g.s, g.id, g.token, g.renew, g.over = nil, "", "", false, false
		g.pending, g.count = map[string]int{}, 0
	}
}

func (w *world) endOthers(g *guest) {
	ok, sure := w.valid(g) // a login may have found out that it has ended
	err := g.m.EndOthers(g.v)
	w.note("%s ends others: %v", g.name, err)
	if errors.Is(err, session.ErrNoUser) && (g.id == "" || g.over || !ok || !sure) {
		return
	}
	if err != nil || g.s == nil {
		w.fail("end others: got %v; id %q", err, g.id)
		return
	}
	user := g.s.user
	// One that has logged in anew beside this visit belongs to whom it logged in as.
	if g.id != g.s.id {
		user = ""
		for _, u := range w.users {
			if got := g.m.User(g.v); got == u {
				user = u
			}
		}
	}
	w.ended[user], w.endedAt[user] = w.now(), w.begins
	w.killed[nil] = "all"
	for _, s := range w.souls {
		if s.user == user && s.id != "" && s.id != g.id {
			w.kill(s, "end others")
			s.listed = false
		}
	}
}
