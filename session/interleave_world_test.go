package session_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/session"
)

const (
	worldMax    = 2 // WithMaxSessions
	worldIdle   = 30 * time.Minute
	worldLife   = 3 * time.Hour
	worldGrace  = 30 * time.Second
	worldBudget = 10 * time.Second
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

func newWorld(t *testing.T, seed uint64, ms [3]*session.Manager, plain redis.UniversalClient, prefix string) *world {
	name := fmt.Sprint(prefix, "-", seed)
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), ms: ms, plain: plain, prefix: prefix, users: [2]string{name + "a", name + "b"},
		tokens: map[string]*soul{}, moves: map[string]move{}, ended: map[string]time.Time{}, endedAt: map[string]int{}, killed: map[*soul]string{}, now: time.Now,
	}
	w.note("seed %d", seed)
	return w
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
		_, twice := w.moves[at]
		switch {
		case w.timed && age >= worldGrace+time.Second:
			return nil, true
		case twice || age > worldGrace-time.Second:
			return s, false
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

// leads says whether periodic renewals lead from a token to where its session is,
// be it that nobody can follow them any more.
func (w *world) leads(token string) bool {
	for {
		mv, ok := w.moves[token]
		if !ok {
			s := w.tokens[token]
			return s != nil && token == s.token
		}
		token = mv.to
	}
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

func (w *world) listed(user string) (n int) {
	for _, s := range w.souls {
		if s.listed && s.user == user {
			n++
		}
	}
	return n
}

// sync finds out who was evicted, which a tie of creations leaves open.
func (w *world) sync(user string) {
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
