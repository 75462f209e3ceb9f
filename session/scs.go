package session

import (
	"context"
	"encoding/gob"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/alexedwards/scs/v2"
)

// This file is all that Weir knows of scs's inside: under which context key a
// manager looks for its data.

// GetTime is one of scs's methods, but gob is not told of times by scs.
func init() { gob.Register(time.Time{}) }

var managers atomic.Uint64

// newManager is scs.New without the store in memory and its goroutine, which
// scs offers no way to leave out, nor to stop without a data race
// (memstore.StopCleanup reads what the goroutine it stops may still be writing).
//
// A manager made by hand lacks one thing, a context key of its own, without which
// two managers on one request would take each other's data. It is put where
// scs keeps it; should a later scs keep it elsewhere, scs.New makes the manager.
func newManager() *scs.SessionManager {
	m := new(scs.SessionManager)
	name := "weir." + strconv.FormatUint(managers.Add(1), 10)
	field := reflect.ValueOf(m).Elem().FieldByName("contextKey")
	if field.IsValid() && field.Kind() == reflect.String {
		reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem().SetString(name)
	}
	m.Lifetime = time.Minute // for the look of dataKeyOf; New sets it
	if key := reflect.ValueOf(dataKeyOf(m)); key.Kind() != reflect.String || key.String() != name {
		m = scs.New()
	}
	m.ErrorFunc = func(w http.ResponseWriter, _ *http.Request, _ error) { // only LoadAndSave calls it
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	}
	return m
}

// dataKeyOf learns under which key a manager looks for its data, by letting it
// look into a context that takes note.
func dataKeyOf(m *scs.SessionManager) any {
	n := &noting{Context: context.Background()}
	_, _ = m.Load(n, "") // without a token there is no I/O and no error
	return n.key
}

type noting struct {
	context.Context
	key any
}

func (n *noting) Value(key any) any {
	n.key = key
	return nil
}

// strict is a codec of the user's choice, with errors that have a kind.
type strict struct{ scs.Codec }

func (s strict) Decode(b []byte) (time.Time, map[string]any, error) {
	deadline, values, err := s.Codec.Decode(b)
	if err != nil && !isCorrupt(err) {
		err = fmt.Errorf("session: decode: %w: %w", ErrCorrupt, err)
	}
	if err != nil {
		return time.Time{}, nil, err
	}
	if values == nil {
		values = make(map[string]any) // gob leaves out a nil map; scs writes into it
	}
	return deadline, values, nil
}
