package session_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

// A campaign of random interleavings: visits to a few sessions, each cut into its
// begin, its look, its changes and its commit, are mixed by one goroutine, so that a
// seed repeats a run. Now and then somebody else's whole request comes between two
// commands of one step. A model says after each step what every token must show.
//
// WEIR_SOAK=1 makes it long; WEIR_SEED repeats one world of it.

// interleavings is how many worlds there are of a kind.
func interleavings(short int) int {
	switch {
	case os.Getenv("WEIR_SOAK") != "":
		return 10 * short
	case testing.Short():
		return short / 10
	}
	return short
}

const (
	worldMax    = 2 // WithMaxSessions
	worldIdle   = 30 * time.Minute
	worldLife   = 3 * time.Hour
	worldGrace  = 30 * time.Second
	worldBudget = 5 * time.Second
)

// soul is what the model knows of a session, whatever its token.
type soul struct {
	alive, listed  bool
	doubt          bool // whether it lives is for Redis to say: see world.ask
	user, id       string
	token          string
	keys           map[string]int // of acknowledged commits
	count          int            // of acknowledged updates
	aged           bool
	used, deadline time.Time
}

type move struct {
	to string
	at time.Time
}

type world struct {
	t        *testing.T
	rng      *rand.Rand
	ms       [3]*session.Manager
	plain    redis.UniversalClient
	prefix   string
	timed    bool
	users    [2]string
	souls    []*soul
	tokens   map[string]*soul // all there ever were
	moves    map[string]move  // by periodic renewals
	ended    map[string]time.Time
	endedAt  map[string]int // the begins there had been when all of a user's were ended
	begins   int
	jars     [3]string
	serial   int
	between  sync.Mutex
	mid      func()
	midIn    int
	killed   map[*soul]string // during the step
	disturb  bool
	log      []string
	now      func() time.Time
	failures int
}

// interposer runs what comes between two commands of a step.
type interposer struct{ w **world }

func (i interposer) between() {
	w := *i.w
	if w == nil {
		return
	}
	if mid := w.next(); mid != nil {
		mid()
	}
}

// next is what comes between two commands now, if anything. A cluster's masters are
// asked side by side.
func (w *world) next() func() {
	w.between.Lock()
	defer w.between.Unlock()
	if w.mid == nil {
		return nil
	}
	if w.midIn--; w.midIn >= 0 {
		return nil
	}
	mid := w.mid
	w.mid = nil
	return mid
}

func (i interposer) DialHook(next redis.DialHook) redis.DialHook { return next }

func (i interposer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { i.between(); return next(ctx, cmd) }
}

func (i interposer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { i.between(); return next(ctx, cmds) }
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	if w.failures++; w.failures == 1 {
		w.t.Errorf(format+"\nsteps:\n  %s", append(args, strings.Join(w.log, "\n  "))...)
	}
}

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

// resolve says whose a token is: nil for nobody. sure is false if either may be.
func (w *world) resolve(token string) (s *soul, sure bool) {
	s = w.tokens[token]
	if s == nil || !s.alive {
		return nil, true
	}
	at := token
	if mv, ok := w.moves[at]; ok {
		at = mv.to
		age := w.now().Sub(mv.at)
		if _, twice := w.moves[at]; twice || w.timed && age > worldGrace-time.Second && age < worldGrace+time.Second {
			return s, false
		}
		if age >= worldGrace {
			return nil, true
		}
	}
	if at != s.token {
		return nil, true
	}
	if s.doubt {
		return s, false
	}
	if w.timed {
		if !w.now().Before(s.deadline.Add(2 * time.Second)) {
			return nil, true
		}
		if w.now().Sub(s.used) >= worldIdle*9/10-time.Second || !w.now().Before(s.deadline.Add(-2*time.Second)) {
			return s, false
		}
	}
	return s, true
}

// look checks what a visit shows of its token against the model, and returns whose it is.
func (w *world) look(m *session.Manager, v *session.Visit, token string, unsure bool) *soul {
	w.t.Helper()
	if err := v.Ready(); err != nil {
		w.fail("look: %v", err)
		return nil
	}
	s, sure := w.resolve(token)
	sure = sure && !unsure
	user := m.User(v)
	keys := slices.DeleteFunc(m.Keys(v), func(k string) bool { return strings.HasPrefix(k, "__") })
	nobody := user == "" && len(keys) == 0
	if unsure && s == nil {
		s = w.tokens[token]
	}
	switch {
	case s == nil && !nobody:
		w.fail("a dead token authenticates: user %q, keys %v", user, keys)
		return nil
	case s == nil:
		return nil
	case nobody && sure:
		w.fail("a live token shows nobody; want user %q, keys %v", s.user, s.keys)
		return nil
	case nobody:
		if !unsure && w.moves[token].to == "" {
			s.alive, s.doubt = false, false
		}
		return nil
	}
	if !unsure {
		s.doubt = false
	}
	if unsure {
		return s
	}
	if user != s.user {
		w.fail("user: got %q; want %q", user, s.user)
	}
	for key, want := range s.keys {
		if got := m.GetInt(v, key); got != want {
			w.fail("%s: got %d; want %d: an acknowledged change is lost", key, got, want)
		}
	}
	for _, key := range keys {
		if _, known := s.keys[key]; !known && key != "n" {
			w.fail("%s is there and was never acknowledged", key)
		}
	}
	if got := m.GetInt(v, "n"); got != s.count {
		w.fail("counter: got %d; want %d", got, s.count)
	}
	return s
}

// probe looks with a token, and changes nothing.
func (w *world) probe(token string) *soul {
	w.t.Helper()
	m := w.ms[w.rng.IntN(3)]
	return w.look(m, visit(m, token), token, false)
}

func (w *world) soulOf(token, user, id string) *soul {
	s := &soul{alive: true, user: user, id: id, listed: id != "", token: token, keys: map[string]int{}, used: w.now(), deadline: w.now().Add(worldLife)}
	w.souls = append(w.souls, s)
	w.tokens[token] = s
	return s
}

func (w *world) kill(s *soul, how string) {
	s.alive, s.doubt = false, false
	w.killed[s] = how
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

func (w *world) put(g *guest) {
	w.serial++
	key := fmt.Sprint("k", w.serial)
	g.m.Put(g.v, key, w.serial)
	g.pending[key] = w.serial
	w.note("%s puts %s", g.name, key)
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
		if !g.renew {
			g.token = g.s.token // it has followed where the session has moved
		}
	case errors.Is(err, session.ErrEnded) && (!ok || !sure):
		g.over = true
	default:
		w.fail("update: got %v; a session that lives: %v", err, ok)
	}
}

func (w *world) login(g *guest) {
	user := w.users[w.rng.IntN(2)]
	ok, sure := w.valid(g)
	fresh := g.s == nil
	before := w.listed(user)
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
			s.alive = false
			for s.listed = false; ; {
				break
			}
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
	w.sync(user, before, err == nil)
}

func (w *world) listed(user string) (n int) {
	for _, s := range w.souls {
		if s.listed && s.user == user {
			n++
		}
	}
	return n
}

// sync finds out who was evicted, which a tie of creations leaves open.
func (w *world) sync(user string, _ int, _ bool) {
	infos, err := w.ms[0].Sessions(context.Background(), user)
	if err != nil {
		w.fail("list: %v", err)
		return
	}
	if len(infos) > worldMax {
		w.fail("%d sessions of one user; want at most %d", len(infos), worldMax)
	}
	n := w.listed(user)
	for _, s := range w.souls {
		if s.user != user || !s.listed || slices.ContainsFunc(infos, func(i session.Info) bool { return i.ID == s.id }) {
			continue
		}
		if n < worldMax && !w.disturb && !w.timed {
			w.fail("%s is not listed; the user has %d of %d", s.id, n, worldMax)
		}
		s.listed = false
		w.kill(s, "evicted")
	}
}

func (w *world) destroy(g *guest) {
	ok, _ := w.valid(g)
	err := g.m.Destroy(g.v)
	w.note("%s logs out: %v", g.name, err)
	if err != nil {
		w.fail("destroy: %v", err)
	}
	if s := g.s; s != nil {
		same := g.id != "" && g.id == s.id
		if w.disturb {
			ok, _ = w.valid(g)
		}
		if (ok || same) && !g.over || same {
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
	err := g.m.EndOthers(g.v)
	w.note("%s ends others: %v", g.name, err)
	if errors.Is(err, session.ErrNoUser) && (g.id == "" || g.over) {
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

// intrude arranges for a whole request of somebody else's in the midst of g's step.
func (w *world) intrude(g *guest) {
	if g.s == nil || w.rng.IntN(3) > 0 {
		return
	}
	other := w.ms[0]
	for _, m := range w.ms {
		if m != g.m {
			other = m
		}
	}
	s, op := g.s, w.rng.IntN(6)
	w.midIn = w.rng.IntN(4)
	w.mid = func() {
		w.disturb = true
		w.note("  meanwhile (%d):", op)
		in := &guest{name: "  intruder", m: other, sent: g.token, pending: map[string]int{}, began: w.now()}
		in.v = visit(other, in.sent)
		in.v.KeepToken()
		w.see(in, true)
		switch {
		case op < 2 && in.s != nil:
			w.serial++
			key := fmt.Sprint("k", w.serial)
			in.m.Put(in.v, key, w.serial)
			if _, err := in.v.Commit(); err == nil && !w.warned(in) {
				s.keys[key] = w.serial
				w.note("  %s is kept", key)
			}
		case op == 2 && in.s != nil:
			if err := in.m.Update(in.v, "n", inc); err == nil {
				s.count++
				w.note("  an update is kept")
			}
		case op == 3 && in.s != nil:
			id := in.id
			if err := in.m.Destroy(in.v); err != nil {
				w.fail("destroy: %v", err)
			}
			w.kill(s, "logout")
			if id == s.id {
				s.listed = false
			}
			w.note("  a logout")
		case op == 4 && s.id != "":
			w.end(in.m, s)
		case op == 5 && s.user != "":
			in.s = nil
			in.committed = true
			user := s.user
			if err := in.m.EndAll(context.Background(), user); err != nil {
				w.fail("end all: %v", err)
			}
			w.note("  end all of %s", user[len(user)-1:])
			w.ended[user], w.endedAt[user] = w.now(), w.begins
			w.killed[nil] = "all"
			for _, s := range w.souls {
				if s.user == user && s.id != "" {
					w.kill(s, "end all")
					s.listed = false
				}
			}
		}
	}
}

// settle checks what must hold after each step; all tokens at the end.
func (w *world) settle(all bool) {
	w.mid, w.disturb = nil, false
	clear(w.killed)
	tokens := slices.Sorted(maps.Keys(w.tokens))
	if !all && len(tokens) > 1 {
		tokens = tokens[w.rng.IntN(len(tokens)):][:1]
	}
	for _, token := range tokens {
		w.probe(token)
	}
	if !all || w.timed {
		return
	}
	for _, user := range w.users {
		infos, err := w.ms[0].Sessions(context.Background(), user)
		if err != nil {
			w.fail("list: %v", err)
		}
		var got, want []string
		for _, i := range infos {
			got = append(got, i.ID)
		}
		for _, s := range w.souls {
			if s.listed && s.user == user {
				want = append(want, s.id)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		doubt := slices.ContainsFunc(w.souls, func(s *soul) bool { return s.doubt })
		if !slices.Equal(got, want) && !doubt {
			w.fail("listed: got %v; want %v", got, want)
		}
	}
	w.expiring(tokens)
}

// expiring checks that no key is without expiry.
func (w *world) expiring(tokens []string) {
	var keys []string
	for _, token := range tokens {
		keys = append(keys, w.prefix+keyOf(token)[len("scs:session"):])
		if len(token) > 59 {
			for _, part := range []string{"ids", "info", "ended"} {
				keys = append(keys, "weir:session-user:{"+token[59:]+"}:"+part)
			}
		}
	}
	for _, key := range keys {
		if w.plain.PTTL(context.Background(), key).Val() == -1 {
			w.fail("%s never expires", key)
		}
	}
}

// run mixes the steps of some visits.
func (w *world) run() {
	var under []*guest
	for n := range 30 {
		if w.failures > 0 {
			return
		}
		if w.timed {
			time.Sleep([]time.Duration{0, time.Second, 10 * time.Second, time.Minute, 4 * time.Minute, 20 * time.Minute}[w.rng.IntN(6)])
		}
		if len(under) == 0 || len(under) < 4 && w.rng.IntN(3) == 0 {
			g := w.begin(fmt.Sprint("v", n))
			w.note("%s begins with %.4s", g.name, g.sent)
			under = append(under, g)
			if w.rng.IntN(3) == 0 {
				continue // looks later
			}
		}
		i := w.rng.IntN(len(under))
		g := under[i]
		switch {
		case g.steps > 0 && g.token == "" && g.s == nil && !g.v.Touched():
			w.note("%s looks", g.name)
			w.see(g, false)
		case g.steps > 0:
			g.steps--
			w.intrude(g)
			w.change(g)
		default:
			w.intrude(g)
			w.commit(g)
			under = slices.Delete(under, i, i+1)
		}
		w.settle(false)
	}
	for _, g := range under {
		w.commit(g)
		w.settle(false)
	}
	w.settle(true)
}

func newWorld(t *testing.T, seed uint64, ms [3]*session.Manager, plain redis.UniversalClient, prefix string) *world {
	name := fmt.Sprint(prefix, "-", seed)
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), ms: ms, plain: plain, prefix: prefix, users: [2]string{name + "a", name + "b"},
		tokens: map[string]*soul{}, moves: map[string]move{}, ended: map[string]time.Time{}, endedAt: map[string]int{}, killed: map[*soul]string{}, now: time.Now,
	}
	w.note("seed %d", seed)
	return w
}

func seedOf(t *testing.T) uint64 {
	seed := rand.Uint64() >> 16
	if s := os.Getenv("WEIR_SEED"); s != "" {
		fmt.Sscan(s, &seed)
	}
	t.Logf("WEIR_SEED=%d", seed)
	return seed
}

func TestInterleavings(t *testing.T) {
	t.Parallel()
	for kind, worlds := range map[string]int{"mini": 200, "server": 800, "cluster": 500, "cluster3": 500} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			var b *testkit.Backend
			if kind == "mini" {
				b = testkit.Mini(t)
			} else {
				b = testkit.Shared(t, kind)
			}
			var current *world
			var ms [3]*session.Manager
			prefix := b.Prefix(t)
			for i := range ms {
				client := b.Client(t)
				client.AddHook(interposer{&current})
				ms[i] = newManager(t, client, session.WithPrefix(prefix), session.WithTimeout(worldBudget),
					session.WithMaxSessions(worldMax, session.EvictOldest), session.WithRenewal(time.Hour))
			}
			plain := b.Client(t)
			seed := seedOf(t)
			for n := range interleavings(worlds) {
				current = newWorld(t, seed+uint64(n), ms, plain, prefix)
				if current.run(); t.Failed() {
					return
				}
			}
		})
	}
}

// The same while time passes: renewals, idle timeouts and absolute deadlines.
func TestInterleavings_time(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	for n := range interleavings(300) {
		synctest.Test(t, func(t *testing.T) {
			b := testkit.Memory(t)
			var current *world
			var ms [3]*session.Manager
			for i := range ms {
				client := b.Client(t)
				client.AddHook(interposer{&current})
				ms[i] = newManager(t, client, session.WithPrefix("p"), session.WithTimeout(worldBudget), session.WithLifetime(worldLife),
					session.WithIdleTimeout(worldIdle), session.WithMaxSessions(worldMax, session.EvictOldest), session.WithRenewal(7*time.Minute))
			}
			current = newWorld(t, seed+uint64(n), ms, b.Client(t), "p")
			current.timed = true
			current.run()
		})
		if t.Failed() {
			return
		}
	}
}

// Truly side by side: what holds whichever way they interleave.
func TestInterleavings_parallel(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"server", "cluster3"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, kind)
			ms := three(t, b, session.WithPrefix(b.Prefix(t)), session.WithRenewal(time.Hour))
			for round := range interleavings(20) {
				user := fmt.Sprint(b.Prefix(t), round)
				token := loginAs(t, ms[0], login(t, ms[0], "x"), user)
				if round%3 == 0 {
					ageing(t, ms[0], token)
				}
				var mu sync.Mutex
				tokens, kept, updates := map[string]bool{token: true}, []string{}, 0
				lasting := true
				var done sync.WaitGroup
				for i := range 12 {
					done.Go(func() {
						m := ms[i%3]
						v := visit(m, token)
						if m.User(v) == "" {
							return
						}
						key, updated := fmt.Sprint("k", i), false
						switch {
						case i < 6:
							m.Put(v, key, i+1)
						case i < 10:
							updated = m.Update(v, "n", inc) == nil
							key = ""
						case i == 10 && round%3 == 1:
							_ = m.RenewToken(v)
							m.Put(v, key, i+1)
						case i == 11 && round%5 == 4:
							if m.EndAll(context.Background(), user) == nil {
								mu.Lock()
								lasting = false
								mu.Unlock()
							}
							return
						default:
							key = ""
						}
						c, err := v.Commit()
						mu.Lock()
						defer mu.Unlock()
						if err != nil {
							t.Error(err)
						}
						if c != nil && c.Value != "" {
							tokens[c.Value] = true
						}
						if key != "" && v.Warning() == nil {
							kept = append(kept, key)
						}
						if updated {
							updates++
						}
					})
				}
				done.Wait()
				alive := 0
				for token := range tokens {
					v := visit(ms[1], token)
					if ms[1].User(v) == "" {
						continue
					}
					alive++
					for _, key := range kept {
						if !ms[1].Exists(v, key) {
							t.Errorf("round %d: %s was acknowledged and is lost", round, key)
						}
					}
					if got := ms[1].GetInt(v, "n"); got != updates {
						t.Errorf("round %d: counter: got %d; want %d", round, got, updates)
					}
				}
				if !lasting && alive > 0 || lasting && alive == 0 {
					t.Errorf("round %d: %d tokens alive; ended: %v", round, alive, !lasting)
				}
			}
		})
	}
}
