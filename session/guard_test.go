package session_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

// silent returns a manager whose Redis refuses connections.
func silent(t *testing.T) *session.Manager {
	client := redis.NewClient(&redis.Options{Addr: testkit.RefusedAddr(t)})
	t.Cleanup(func() { client.Close() })
	return newManager(t, client)
}

// anyToken is one that somebody may have.
const anyToken = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

func TestVisit_Guard(t *testing.T) {
	t.Parallel()
	m := silent(t)

	v := visit(m, anyToken)
	if err := v.Guard(func() { m.GetString(v, "user") }); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("a look: got %v; want ErrUnavailable", err)
	}
	if c, err := v.Commit(); c != nil || !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("commit: got %v, %v; want ErrUnavailable", c, err)
	}

	// Any other panic passes.
	func() {
		defer func() {
			if got := recover(); got != http.ErrAbortHandler {
				t.Errorf("another panic: got %v", got)
			}
		}()
		_ = v.Guard(func() { panic(http.ErrAbortHandler) })
	}()
}

// A goroutine that is the first to look while Redis is silent does not end the
// process, and gets nothing stored or answered. Red without guarded in Visit.look.
func TestVisit_goroutine(t *testing.T) {
	t.Parallel()
	m := silent(t)
	v := visit(m, anyToken)
	err := v.Guard(func() {
		done := make(chan string)
		go func() {
			m.Put(v, "user", "nobody")
			done <- m.GetString(v, "other")
		}()
		if got := <-done; got != "" {
			t.Errorf("got %q", got)
		}
	})
	if err != nil {
		t.Errorf("guard: %v", err)
	}
	if c, err := v.Commit(); c != nil || !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("commit: got %v, %v; want ErrUnavailable", c, err)
	}
	if err := v.Guard(func() { m.GetString(v, "user") }); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("a look in the handler's own goroutine: got %v; want ErrUnavailable", err)
	}
}

// http.TimeoutHandler's goroutine is one from which panics come back.
func TestVisit_timeoutHandler(t *testing.T) {
	t.Parallel()
	m := silent(t)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(&http.Cookie{Name: m.Cookie.Name, Value: anyToken})
	v := m.Visit(r)
	acted := false
	h := http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.GetString(r.Context(), "user")
		acted = true
	}), time.Minute, "late")
	err := v.Guard(func() { h.ServeHTTP(httptest.NewRecorder(), r.WithContext(v)) })
	if !errors.Is(err, session.ErrUnavailable) || acted {
		t.Errorf("got %v, acted: %v; want ErrUnavailable, false", err, acted)
	}
}

// Where it is allowed by name the visitor is anonymous for once: readable, and not
// writable.
func TestVisit_AllowAnonymous(t *testing.T) {
	t.Parallel()
	m := silent(t)
	v := visit(m, anyToken)
	session.AllowAnonymous(v)
	if got := m.GetString(v, "user"); got != "" || !v.Blind() || !v.Touched() {
		t.Errorf("got %q, blind %v, touched %v", got, v.Blind(), v.Touched())
	}
	if c, err := v.Commit(); c != nil || err != nil {
		t.Errorf("commit: got %v, %v; want neither", c, err)
	}
	if err := v.Finish(); err != nil {
		t.Errorf("finish: %v", err)
	}
	m.Put(v, "cart", 1)
	if _, err := v.Commit(); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("a change: got %v; want ErrUnavailable", err)
	}
	k := session.NewKey[int](m, "n")
	if _, _, err := k.Get(v); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("a key: got %v; want ErrUnavailable", err)
	}
}

// The methods that return errors do not panic, guarded or not.
func TestManager_errorsWhenSilent(t *testing.T) {
	t.Parallel()
	m := silent(t)
	for name, f := range map[string]func(v *session.Visit) error{
		"Key.Get": func(v *session.Visit) error { _, _, err := session.NewKey[int](m, "n").Get(v); return err },
		"Key.Put": func(v *session.Visit) error { return session.NewKey[int](m, "n").Put(v, 1) },
		"Update":  func(v *session.Visit) error { return m.Update(v, "n", func(any) any { return 1 }) },
		"Login":   func(v *session.Visit) error { return m.Login(v, "alice") },
		"EndAll":  func(v *session.Visit) error { return m.EndAll(v, "alice") },
		"End":     func(v *session.Visit) error { _, err := m.End(v, "alice", "AAAAAAAAAAAAAAAA"); return err },
		"Others":  func(v *session.Visit) error { return m.EndOthers(v) },
		"List":    func(v *session.Visit) error { _, err := m.Sessions(v, "alice"); return err },
		"Commit":  func(v *session.Visit) error { _, _, err := m.Commit(v); return err },
		"Iterate": func(v *session.Visit) error { return m.Iterate(t.Context(), nil) },
		"Load":    func(v *session.Visit) error { _, err := m.Load(t.Context(), anyToken); return err },
	} {
		if err := f(visit(m, anyToken)); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("%s: got %v; want ErrUnavailable", name, err)
		}
	}
}
