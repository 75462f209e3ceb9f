package session_test

import (
	"encoding/gob"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

type cart struct {
	Items map[string]int `json:"items"`
	Note  *string
}

// registered is a type that an application has registered for scs.
type registered struct{ A, B int }

func init() { gob.Register(registered{}) }

// roundTrip stores a value under a key and reads it in another request.
func roundTrip[T any](t *testing.T, m *session.Manager, name string, value T) {
	t.Helper()
	k := session.NewKey[T](m, name)
	v := visit(m, "")
	if got, ok, err := k.Get(v); ok || err != nil || !reflect.ValueOf(&got).Elem().IsZero() {
		t.Errorf("%T: before: got %v, %v, %v; want nothing", value, got, ok, err)
	}
	if err := k.Put(v, value); err != nil {
		t.Errorf("%T: put: %v", value, err)
		return
	}
	if got, ok, err := k.Get(v); !ok || err != nil || !reflect.DeepEqual(got, value) {
		t.Errorf("%T: same request: got %v, %v, %v; want %v", value, got, ok, err, value)
	}
	c, err := v.Commit()
	if err != nil || c == nil {
		t.Errorf("%T: commit: got %v, %v", value, c, err)
		return
	}
	v = visit(m, c.Value)
	if got, ok, err := k.Get(v); !ok || err != nil || !reflect.DeepEqual(got, value) {
		t.Errorf("%T: got %v, %v, %v; want %v", value, got, ok, err, value)
	}
	if got, ok, err := k.Pop(v); !ok || err != nil || !reflect.DeepEqual(got, value) {
		t.Errorf("%T: pop: got %v, %v, %v; want %v", value, got, ok, err, value)
	}
	if _, ok, err := k.Pop(visit(m, c.Value)); ok || err != nil { // at once
		t.Errorf("%T: popped: got %v, %v; want nothing", value, ok, err)
	}
}

func TestKey_roundTrip(t *testing.T) {
	t.Parallel()
	m := newManager(t, testkit.Mini(t).Client(t))
	note := "n"
	roundTrip(t, m, "k", "text")
	roundTrip(t, m, "k", 7)
	roundTrip(t, m, "k", int64(-7))
	roundTrip(t, m, "k", uint8(7))
	roundTrip(t, m, "k", 1.5)
	roundTrip(t, m, "k", true)
	roundTrip(t, m, "k", []byte{0, 255})
	roundTrip(t, m, "k", time.Date(2026, 11, 24, 1, 2, 3, 4, time.UTC))
	roundTrip(t, m, "k", time.Minute)
	roundTrip(t, m, "k", []string{"a", "b"})
	roundTrip(t, m, "k", map[string]int{"a": 1})
	roundTrip(t, m, "k", cart{Items: map[string]int{"tea": 2}, Note: &note})
	roundTrip(t, m, "k", &cart{Items: map[string]int{"tea": 2}})
	roundTrip(t, m, "k", [2]bool{true, false})
}

// What handlers put by scs's methods a Key reads, and the other way round.
func TestKey_besideSCS(t *testing.T) {
	t.Parallel()
	m := newManager(t, testkit.Mini(t).Client(t))
	v := visit(m, "")
	m.Put(v, "n", 7)
	m.Put(v, "r", registered{1, 2})
	c, err := v.Commit()
	if err != nil {
		t.Fatal(err)
	}
	v = visit(m, c.Value)
	n, r := session.NewKey[int](m, "n"), session.NewKey[registered](m, "r")
	if got, ok, err := n.Get(v); got != 7 || !ok || err != nil {
		t.Errorf("int: got %v, %v, %v", got, ok, err)
	}
	if got, ok, err := r.Get(v); got != (registered{1, 2}) || !ok || err != nil {
		t.Errorf("registered: got %v, %v, %v", got, ok, err)
	}
	if err := n.Put(v, 8); err != nil || m.GetInt(v, "n") != 8 {
		t.Errorf("GetInt: got %d, %v; want 8", m.GetInt(v, "n"), err)
	}
	if err := n.Remove(v); err != nil || m.Exists(v, "n") {
		t.Errorf("removed: got %v, %v", m.Exists(v, "n"), err)
	}
}

// A value that does not decode is an error of its own, and takes nothing else along.
func TestKey_corrupt(t *testing.T) {
	t.Parallel()
	m := newManager(t, testkit.Mini(t).Client(t))
	v := visit(m, "")
	m.Put(v, "number", 7)
	m.Put(v, "text", []byte("{"))
	m.Put(v, "fine", []byte(`{"items":{"tea":1}}`))
	for _, name := range []string{"number", "text"} {
		k := session.NewKey[cart](m, name)
		if _, ok, err := k.Get(v); ok || !errors.Is(err, session.ErrCorrupt) {
			t.Errorf("%s: got %v, %v; want ErrCorrupt", name, ok, err)
		}
		if err := k.Update(v, func(c cart) (cart, error) { return c, nil }); !errors.Is(err, session.ErrCorrupt) {
			t.Errorf("%s: update: got %v; want ErrCorrupt", name, err)
		}
		if _, _, err := k.Pop(v); !errors.Is(err, session.ErrCorrupt) || !m.Exists(v, name) {
			t.Errorf("%s: pop: got %v; want ErrCorrupt, and the value kept", name, err)
		}
	}
	if got, ok, err := session.NewKey[cart](m, "fine").Get(v); got.Items["tea"] != 1 || !ok || err != nil {
		t.Errorf("fine: got %v, %v, %v", got, ok, err)
	}
	if err := session.NewKey[chan int](m, "chan").Put(v, nil); err == nil {
		t.Error("a channel: got no error")
	}
}

func TestKey_misuse(t *testing.T) {
	t.Parallel()
	m := newManager(t, testkit.Mini(t).Client(t))
	k := session.NewKey[int](m, "n")
	_, _, getErr := k.Get(t.Context())
	_, _, popErr := k.Pop(t.Context())
	for name, err := range map[string]error{
		"get": getErr, "pop": popErr, "put": k.Put(t.Context(), 1), "remove": k.Remove(t.Context()),
		"update": k.Update(t.Context(), func(n int) (int, error) { return n, nil }),
	} {
		if !errors.Is(err, session.ErrNoVisit) {
			t.Errorf("%s outside of a request: got %v; want ErrNoVisit", name, err)
		}
	}
	for name, f := range map[string]func(){
		"nil":      func() { session.NewKey[int](nil, "n") },
		"empty":    func() { session.NewKey[int](m, "") },
		"reserved": func() { session.NewKey[int](m, "__rememberMe") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func TestKey_Update(t *testing.T) {
	t.Parallel()
	m := newManager(t, testkit.Mini(t).Client(t))
	token := login(t, m, "alice")
	k := session.NewKey[cart](m, "cart")
	add := func(item string) func(cart) (cart, error) {
		return func(c cart) (cart, error) {
			if c.Items == nil {
				c.Items = make(map[string]int)
			}
			c.Items[item]++
			return c, nil
		}
	}
	var done sync.WaitGroup
	for i := range 30 {
		done.Go(func() {
			v := visit(m, token)
			if err := k.Update(v, add(fmt.Sprint(i%3))); err != nil {
				t.Error(err)
			}
			commit(t, v)
		})
	}
	done.Wait()
	v := visit(m, token)
	if got, _, err := k.Get(v); err != nil || !reflect.DeepEqual(got.Items, map[string]int{"0": 10, "1": 10, "2": 10}) {
		t.Errorf("got %v, %v; want 10 each", got.Items, err)
	}
	own := errors.New("sold out")
	if err := k.Update(v, func(c cart) (cart, error) { c.Items["3"] = 1; return c, own }); !errors.Is(err, own) {
		t.Errorf("own error: got %v", err)
	}
	if got, _, _ := k.Get(v); len(got.Items) != 3 {
		t.Errorf("own error: got %v; want no change", got.Items)
	}
}

// 50 requests look for messages side by side: each message is delivered once. Red when
// Pop takes what it has loaded.
func TestFlash_once(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		ms := three(t, b)
		token := login(t, ms[0], "alice")
		var flashes [3]session.Flash[string]
		for i, m := range ms {
			flashes[i] = session.NewFlash[string](m, "flash")
		}
		const n = 20
		var done sync.WaitGroup
		for i := range n {
			done.Go(func() {
				v := visit(ms[i%3], token)
				if err := flashes[i%3].Add(v, fmt.Sprint("message ", i)); err != nil {
					t.Error(err)
				}
				commit(t, v)
			})
		}
		done.Wait()
		var mu sync.Mutex
		got := make(map[string]int)
		for i := range 50 {
			done.Go(func() {
				v := visit(ms[i%3], token)
				messages, err := flashes[i%3].Take(v)
				if err != nil {
					t.Error(err)
				}
				commit(t, v)
				mu.Lock()
				defer mu.Unlock()
				for _, m := range messages {
					got[m]++
				}
			})
		}
		done.Wait()
		for i := range n {
			if m := fmt.Sprint("message ", i); got[m] != 1 {
				t.Errorf("%s: delivered %d times; want once", m, got[m])
			}
		}
	})
}

// A session that scs wrote by gob, with a registered type, is read whole.
func TestManager_readsGob(t *testing.T) {
	t.Parallel()
	rdb := testkit.Mini(t).Client(t)
	m := newManager(t, rdb)
	token := login(t, m, "alice")
	stored, err := scs.GobCodec{}.Encode(time.Now().Add(time.Hour), map[string]any{"user": "bob", "r": registered{3, 4}, "n": 5})
	if err != nil {
		t.Fatal(err)
	}
	rdb.Set(t.Context(), keyOf(token), stored, time.Hour)
	v := visit(m, token)
	if got := fmt.Sprintf("%v %v %v", m.Get(v, "user"), m.Get(v, "r"), m.Get(v, "n")); got != "bob {3 4} 5" {
		t.Errorf("got %s", got)
	}
}
