package bench

import (
	"errors"
	"net/http"
	"strconv"
	"sync"
	"testing"

	"github.com/go-weir/weir/internal/testkit"
)

// Each contestant keeps a session: what the wrapper does is what it means to do.
func TestKeepers(t *testing.T) {
	t.Parallel()
	addr := testkit.Server(t).Addrs()[0]
	seen := map[string]bool{}
	for _, c := range keepers {
		if seen[c.name] {
			t.Errorf("two contestants are named %q", c.name)
		}
		seen[c.name] = true
		t.Run(c.name, func(t *testing.T) {
			client := c.dial(addr, 0)
			t.Cleanup(func() { client.Close() })
			k, err := c.open(client)
			if err != nil {
				t.Fatal(err)
			}
			if k.close != nil {
				t.Cleanup(func() { k.close() })
			}
			testDeeds(t, k)
			if !c.floor {
				testKeeper(t, k)
			}
		})
	}
	for _, name := range keeperReferences {
		if !seen[name] {
			t.Errorf("%s is compared with, but no contestant", name)
		}
	}
}

// testDeeds does every deed some times in a row, also when the visitor who is asked
// is busy.
func testDeeds(t *testing.T, k keeper) {
	for _, d := range deeds {
		visitors, err := d.visitors(k, 3)
		if err != nil {
			t.Fatalf("%s: %v", d.name, err)
		}
		do := d.on(k)
		visitors[1].busy.Store(true)
		for i := range 4 {
			if right, err := do(t.Context(), visitors[i%2]); err != nil || !right {
				t.Errorf("%s: %v, %v; want true", d.name, right, err)
			}
		}
	}
}

// testKeeper logs in, reads back and logs out.
func testKeeper(t *testing.T, k keeper) {
	alice, err := k.newVisitor(arrive)
	if err != nil {
		t.Fatal(err)
	}
	before := cookieOf(alice)
	if before == "" {
		t.Fatal("no cookie")
	}
	e := alice.visit(k.handler(login))
	alice.carry(e.cookie())
	if right, err := e.verdict(); err != nil || !right || cookieOf(alice) == before {
		t.Fatalf("login: %v, %v, cookie %q; want another", right, err, cookieOf(alice))
	}
	for _, key := range keptKeys {
		if got := value(t, k, alice, key); got != keptValue(key) {
			t.Errorf("%s is %q after the login", key, got)
		}
	}
	stranger, err := k.newVisitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	old, _ := k.newVisitor(nil)
	old.carry(before)
	for name, v := range map[string]*visitor{"a stranger": stranger, "the old cookie": old} {
		if got := value(t, k, v, "user"); got != "" {
			t.Errorf("%s finds %q", name, got)
		}
	}
	for range 2 {
		was := value(t, k, alice, "theme")
		if right, err := alice.visit(k.handler(modify)).verdict(); err != nil || !right {
			t.Fatalf("modify: %v, %v", right, err)
		}
		if got := value(t, k, alice, "theme"); got == was {
			t.Errorf("the theme is %q still", got)
		}
	}
	e = alice.visit(k.handler(logout))
	if right, err := e.verdict(); err != nil || !right || e.cookie() != "" {
		t.Errorf("logout: %v, %v, cookie %q; want none", right, err, e.cookie())
	}
	if got := value(t, k, alice, "user"); got != "" {
		t.Errorf("after the logout the cookie finds %q", got)
	}
}

func cookieOf(v *visitor) string { return v.request.Header.Get("Cookie") }

// value is what a request of the visitor's finds.
func value(t *testing.T, k keeper, v *visitor, key string) (got string) {
	t.Helper()
	_, err := v.visit(k.handler(func(k keeper, _ http.ResponseWriter, r *http.Request) (_ bool, err error) {
		got, err = k.get(r, key)
		return true, err
	})).verdict()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// toy keeps sessions in memory, well or badly.
type toy struct {
	mu       sync.Mutex
	sessions map[string]map[string]string // by cookie
	whole    bool                         // writes back all that a request has loaded
	refuses  bool                         // answers changes of an ended session with an error
}

// toyVisit is one request's session.
type toyVisit struct {
	values  map[string]string
	changed map[string]string
}

func (s *toy) keeper() keeper {
	visits := sync.Map{} // *http.Request to *toyVisit
	visit := func(r *http.Request) *toyVisit {
		s.mu.Lock()
		defer s.mu.Unlock()
		values := map[string]string{}
		for key, value := range s.sessions[r.Header.Get("Cookie")] {
			values[key] = value
		}
		v, _ := visits.LoadOrStore(r, &toyVisit{values, map[string]string{}})
		return v.(*toyVisit)
	}
	return keeper{
		get: func(r *http.Request, key string) (string, error) { return visit(r).values[key], nil },
		put: func(r *http.Request, key, value string) error {
			v := visit(r)
			v.values[key], v.changed[key] = value, value
			return nil
		},
		end: func(_ http.ResponseWriter, r *http.Request) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.sessions, r.Header.Get("Cookie"))
			return nil
		},
		save: func(w http.ResponseWriter, r *http.Request) error {
			v, cookie := visit(r), r.Header.Get("Cookie")
			s.mu.Lock()
			defer s.mu.Unlock()
			if cookie == "" {
				cookie = "toy=" + strconv.Itoa(len(s.sessions))
				w.Header().Set("Set-Cookie", cookie)
				s.sessions[cookie] = v.values
				return nil
			}
			if s.whole {
				s.sessions[cookie] = v.values
				return nil
			}
			now, there := s.sessions[cookie]
			if !there && s.refuses {
				return errors.New("ended")
			}
			for key, value := range v.changed {
				if there {
					now[key] = value
				}
			}
			return nil
		},
	}
}

// The races tell sessions that are right from those that are wrong.
func TestRaces(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name           string
		whole, refuses bool
		kept           int
		alive          bool
	}{
		{"whole sessions", true, false, 1, true},
		{"single keys", false, false, raceWrites, false},
		{"single keys, refusing", false, true, raceWrites, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &toy{sessions: map[string]map[string]string{}, whole: tt.whole, refuses: tt.refuses}
			k := s.keeper()
			kept, refused, err := parallelChanges(k)
			if kept != tt.kept || refused != 0 || err != nil {
				t.Errorf("%d kept, %d refused, %v; want %d, 0", kept, refused, err, tt.kept)
			}
			for _, change := range []bool{false, true} {
				alive, err := outlivesLogout(k, change)
				if want := change && tt.alive; alive != want || err != nil {
					t.Errorf("changed %v: alive %v, %v; want %v", change, alive, err, want)
				}
			}
		})
	}
}

// Changes that fail are told apart from those that are lost.
func TestParallelChanges_refused(t *testing.T) {
	t.Parallel()
	k := (&toy{sessions: map[string]map[string]string{}}).keeper()
	save := k.save
	k.save = func(w http.ResponseWriter, r *http.Request) error {
		if r.Header.Get("Cookie") != "" {
			return errors.New("full")
		}
		return save(w, r)
	}
	kept, refused, err := parallelChanges(k)
	if kept != 0 || refused != raceWrites || err != nil {
		t.Errorf("%d kept, %d refused, %v; want 0, %d", kept, refused, err, raceWrites)
	}
}

func TestExchange_cookie(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		set  []string
		want string
	}{
		{nil, ""},
		{[]string{"a=1; Path=/; Secure"}, "a=1"},
		{[]string{"a=; Max-Age=0", "a=2"}, "a=2"},
		{[]string{"a=1", "a=; Max-Age=0"}, ""},
	} {
		e := &exchange{header: http.Header{"Set-Cookie": tt.set}}
		if got := e.cookie(); got != tt.want {
			t.Errorf("%q: %q; want %q", tt.set, got, tt.want)
		}
	}
}
