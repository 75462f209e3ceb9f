package bench

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// idleTimeout is what every contestant with an idle timeout is asked to keep.
const idleTimeout = 30 * time.Minute

// keeping is a contestant that keeps sessions.
type keeping = contestant[func(*redis.Client) (keeper, error)]

// keeper is what a handler's sessions are kept with. All functions are called
// from many goroutines, get and those below it only inside of wrap.
type keeper struct {
	// wrap is the middleware; nil if there is none.
	wrap func(http.Handler) http.Handler
	// get returns a value of the request's session, "" if there is none.
	get func(r *http.Request, key string) (string, error)
	put func(r *http.Request, key, value string) error
	// renew gives the session a new token; the old one is dead.
	renew func(http.ResponseWriter, *http.Request) error
	// end is a logout.
	end func(http.ResponseWriter, *http.Request) error
	// save is what a handler that called put or renew has to call before it
	// answers; nil if the middleware does it.
	save func(http.ResponseWriter, *http.Request) error
	// close frees what the client's Close does not; nil if there is nothing.
	close func() error
}

// keepers are in the order of the tables' rows. To add one, write its file and
// name it here.
var keepers = []keeping{
	bareKeeper,
	weirKeeper,
	weirKeeperDeadline,
	scsIdle,
	scsNoIdle,
	scsRedigo,
	gorillaKeeper,
}

// Sessions are compared with the peer that promises most of what Weir does: an
// idle timeout, and no token in Redis.
var keeperReferences = []string{scsIdle.name}

// The session of every visitor: five keys of small strings.
var keptKeys = []string{"user", "name", "mail", "role", "theme"}

func keptValue(key string) string { return "value of " + key }

// act is what a handler does with the session. right says whether it found what
// must be there.
type act func(k keeper, w http.ResponseWriter, r *http.Request) (right bool, err error)

// arrive begins a session.
func arrive(k keeper, w http.ResponseWriter, r *http.Request) (bool, error) {
	for _, key := range keptKeys {
		if err := k.put(r, key, keptValue(key)); err != nil {
			return false, err
		}
	}
	return true, k.saved(w, r)
}

// leaveAlone does what most requests do with a session: nothing.
func leaveAlone(keeper, http.ResponseWriter, *http.Request) (bool, error) { return true, nil }

// readUser looks at the session.
func readUser(k keeper, _ http.ResponseWriter, r *http.Request) (bool, error) {
	user, err := k.get(r, "user")
	return user == keptValue("user"), err
}

// writes counts the changes, for values that differ.
var writes atomic.Int64

// modify changes the session: no two times to the same value.
func modify(k keeper, w http.ResponseWriter, r *http.Request) (bool, error) {
	digits := []byte("change 0000000000")
	for n, at := writes.Add(1), len(digits)-1; n > 0; n, at = n/10, at-1 {
		digits[at] = byte('0' + n%10)
	}
	if err := k.put(r, "theme", string(digits)); err != nil {
		return false, err
	}
	return true, k.saved(w, r)
}

// modifyInVain puts what is there already.
func modifyInVain(k keeper, w http.ResponseWriter, r *http.Request) (bool, error) {
	if err := k.put(r, "theme", keptValue("theme")); err != nil {
		return false, err
	}
	return true, k.saved(w, r)
}

// login is a new token for the session, as OWASP has it, and who it is now.
func login(k keeper, w http.ResponseWriter, r *http.Request) (bool, error) {
	if err := k.renew(w, r); err != nil {
		return false, err
	}
	if err := k.put(r, "user", keptValue("user")); err != nil {
		return false, err
	}
	return true, k.saved(w, r)
}

func logout(k keeper, w http.ResponseWriter, r *http.Request) (bool, error) {
	return true, k.end(w, r)
}

func (k keeper) saved(w http.ResponseWriter, r *http.Request) error {
	if k.save == nil {
		return nil
	}
	return k.save(w, r)
}

// handler answers 204 if do was right, 409 if it was not, and 500 if it failed.
func (k keeper) handler(do act) http.Handler {
	var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch right, err := do(k, w, r); {
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		case !right:
			w.WriteHeader(http.StatusConflict)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	if k.wrap != nil {
		h = k.wrap(h)
	}
	return h
}

// visitor is a browser with one cookie, or with none.
type visitor struct {
	request *http.Request
	busy    atomic.Bool // in a deed
	next    *visitor    // who is asked when this one is busy; only in a deed
}

// newVisitor returns one whose first request is made already: do, mostly arrive,
// may have given it a cookie.
func (k keeper) newVisitor(do act) (*visitor, error) {
	v := new(visitor)
	v.carry("")
	if do == nil {
		return v, nil
	}
	e := v.visit(k.handler(do))
	v.carry(e.cookie())
	_, err := e.verdict()
	return v, err
}

// carry makes the visitor send a cookie, "name=value", from now on.
func (v *visitor) carry(cookie string) {
	r, err := http.NewRequest(http.MethodGet, "http://localhost/", nil)
	if err != nil {
		panic(err)
	}
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	v.request = r
}

// visit sends a request: a copy, as gorilla/sessions writes into it.
func (v *visitor) visit(h http.Handler) *exchange {
	e := &exchange{request: *v.request, header: make(http.Header)}
	h.ServeHTTP(e, &e.request)
	return e
}

// exchange is a request and its answer, of which the body is dropped: a
// ResponseWriter that costs nothing.
type exchange struct {
	request http.Request
	header  http.Header
	status  int
}

func (e *exchange) Header() http.Header { return e.header }

func (e *exchange) WriteHeader(status int) {
	if e.status == 0 {
		e.status = status
	}
}

func (e *exchange) Write(p []byte) (int, error) {
	e.WriteHeader(http.StatusOK)
	return len(p), nil
}

// verdict is what the handler's act returned. Other answers are failures.
func (e *exchange) verdict() (right bool, err error) {
	switch e.status {
	case http.StatusNoContent:
		return true, nil
	case http.StatusConflict:
		return false, nil
	}
	return false, fmt.Errorf("answered %d", e.status)
}

// cookie is what a browser has after the answer, as "name=value": the last that
// was set, "" if none was or it was taken away.
func (e *exchange) cookie() string {
	set := e.header["Set-Cookie"]
	if len(set) == 0 {
		return ""
	}
	cookie, _, _ := strings.Cut(set[len(set)-1], ";")
	if strings.HasSuffix(cookie, "=") {
		return ""
	}
	return cookie
}

// deed is what a request of one table does.
type deed struct {
	name  string
	do    act
	first act // the visitor's request before; nil: it has no cookie
	// renews says that the visitor has another cookie afterwards.
	renews bool
}

var deeds = []deed{
	{name: "untouched, no cookie", do: leaveAlone},
	{name: "untouched", do: leaveAlone, first: arrive},
	{name: "read", do: readUser, first: arrive},
	{name: "modified", do: modify, first: arrive},
	{name: "same value", do: modifyInVain, first: arrive},
	{name: "login", do: login, first: arrive, renews: true},
}

// on is the deed as its visitors do it, all with one handler. Each has one request
// under way at a time: what two of them do to one session is another table.
func (d deed) on(k keeper) func(context.Context, *visitor) (bool, error) {
	h := k.handler(d.do)
	return func(_ context.Context, v *visitor) (bool, error) {
		for !v.busy.CompareAndSwap(false, true) {
			v = v.next
		}
		defer v.busy.Store(false)
		e := v.visit(h)
		if cookie := e.cookie(); d.renews && cookie != "" {
			v.carry(cookie)
		}
		return e.verdict()
	}
}

// visitors returns n, in a ring, each with a session of its own if the deed needs
// one. There must be one for each caller.
func (d deed) visitors(k keeper, n int) ([]*visitor, error) {
	all := make([]*visitor, n)
	for i := range all {
		var err error
		if all[i], err = k.newVisitor(d.first); err != nil {
			return nil, err
		}
		all[i].next = all[0]
		if i > 0 {
			all[i-1].next = all[i]
		}
	}
	return all, nil
}
