package bench

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// raceWrites is how many requests change one session at a time, each a key of
	// its own.
	raceWrites = 20
	// racePatience is for requests that wait for others: one of those may have
	// failed before it looked.
	racePatience = 5 * time.Second
)

var errNoRace = errors.New("the requests did not run at a time")

// parallelChanges has requests change one session that all of them have looked at
// before. It returns how many of the changes the session holds afterwards, and
// how many were not answered with success.
func parallelChanges(k keeper) (kept, refused int, err error) {
	v, err := k.newVisitor(arrive)
	if err != nil {
		return 0, 0, err
	}
	var looked atomic.Int64
	all := make(chan struct{})
	key := func(i int) string { return fmt.Sprintf("key %d", i) }
	var wg sync.WaitGroup
	failures := make([]error, raceWrites)
	for i := range raceWrites {
		h := k.handler(func(k keeper, w http.ResponseWriter, r *http.Request) (bool, error) {
			if right, err := readUser(k, w, r); err != nil || !right {
				return right, err
			}
			if looked.Add(1) == raceWrites {
				close(all)
			}
			select {
			case <-all:
			case <-time.After(racePatience):
			}
			if err := k.put(r, key(i), "changed"); err != nil {
				return false, err
			}
			return true, k.saved(w, r)
		})
		wg.Go(func() {
			right, err := v.visit(h).verdict()
			if err == nil && !right {
				err = errNoRace
			}
			failures[i] = err
		})
	}
	wg.Wait()
	if looked.Load() != raceWrites {
		return 0, 0, errors.Join(append(failures, errNoRace)...)
	}
	for i := range raceWrites {
		if failures[i] != nil {
			refused++
		}
		there, err := v.visit(k.handler(func(k keeper, _ http.ResponseWriter, r *http.Request) (bool, error) {
			value, err := k.get(r, key(i))
			return value == "changed", err
		})).verdict()
		if err != nil {
			return 0, 0, err
		}
		if there {
			kept++
		}
	}
	return kept, refused, nil
}

// outlivesLogout has a request look at its session, which another one ends before
// the first goes on, and reports whether there is a session afterwards. The first
// may be refused: that is one way to be right.
func outlivesLogout(k keeper, change bool) (alive bool, err error) {
	v, err := k.newVisitor(arrive)
	if err != nil {
		return false, err
	}
	looked, ended := make(chan struct{}), make(chan struct{})
	late := make(chan *exchange, 1)
	go func() {
		late <- v.visit(k.handler(func(k keeper, w http.ResponseWriter, r *http.Request) (bool, error) {
			right, err := readUser(k, w, r)
			if err != nil || !right {
				return right, err
			}
			close(looked)
			<-ended
			if change {
				return modify(k, w, r)
			}
			return true, nil
		}))
	}()
	select {
	case <-looked:
	case <-time.After(racePatience):
		close(ended)
		return false, errNoRace
	}
	_, err = v.visit(k.handler(logout)).verdict()
	close(ended)
	given := (<-late).cookie()
	if err != nil {
		return false, err
	}
	alive, err = v.visit(k.handler(readUser)).verdict()
	if err != nil || alive || given == "" {
		return alive, err
	}
	v.carry(given)
	return v.visit(k.handler(readUser)).verdict()
}
