package session

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alexedwards/scs/v2"
)

// gobCodec is scs.GobCodec, quicker: either reads what the other wrote.
//
// encoding/gob opens each record with the definitions of its three types and
// compiles them anew, which is nine tenths of the work. Records whose values are
// all of basic types, []byte, time.Time or nil are therefore read and written
// here (gob_wire.go); whatever looks otherwise is left to scs.GobCodec, so that
// what a record means is for encoding/gob alone to say.
//
// A record that does not decode is ErrCorrupt. A gobCodec has no state and is
// safe for concurrent use.
//
// It is no defence against whoever can write to Redis: encoding/gob allocates
// what a record's map claims to hold. For the session's own map that is refused
// here, but not for maps inside of values of registered types.
type gobCodec struct{}

// Encode returns the record of a session. The error names the key whose value
// gob cannot encode, and what to do about it.
func (gobCodec) Encode(deadline time.Time, values map[string]any) ([]byte, error) {
	if f := ownForm(); f != nil {
		if b, ok := f.encode(deadline, values); ok {
			return b, nil
		}
	}
	b, err := encodeGob(deadline, values)
	if err != nil {
		return nil, blame(deadline, values, err)
	}
	return b, nil
}

// Decode returns what a record holds. The values are never nil, as scs writes
// into them.
func (gobCodec) Decode(b []byte) (time.Time, map[string]any, error) {
	deadline, values, err := readGob(b, ownForm())
	if err == errNotOurs {
		deadline, values, err = decodeGob(b)
	}
	if err != nil {
		return time.Time{}, nil, fmt.Errorf("session: decode: %w: %w", ErrCorrupt, err)
	}
	if values == nil {
		values = make(map[string]any) // gob leaves out a nil map
	}
	return deadline, values, nil
}

// encodeGob and decodeGob are scs.GobCodec's, without panics: gob lets through
// those of the methods by which a type encodes itself.
func encodeGob(deadline time.Time, values map[string]any) (b []byte, err error) {
	defer recovered(&err)
	return scs.GobCodec{}.Encode(deadline, values)
}

func decodeGob(b []byte) (deadline time.Time, values map[string]any, err error) {
	defer recovered(&err)
	return scs.GobCodec{}.Decode(b)
}

func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("gob: panic: %v", p)
	}
}

// blame finds the value that gob did not encode, by encoding each alone.
func blame(deadline time.Time, values map[string]any, err error) error {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		v := values[key]
		if _, err := encodeGob(time.Time{}, map[string]any{key: v}); err != nil {
			return fmt.Errorf("session: value of key %q: gob cannot encode %T: %w", key, v, remedy(v, err))
		}
	}
	return fmt.Errorf("session: encode: %w", err) // the deadline, or too much in all
}

// remedy says what to do about a value of an unregistered type. Of other
// failures gob's own text says more.
func remedy(v any, err error) error {
	t := reflect.TypeOf(v)
	base := t
	for base.Kind() == reflect.Pointer {
		base = base.Elem()
	}
	switch {
	case base.Kind() == reflect.Chan, base.Kind() == reflect.Func:
		return errors.New("a session holds data only")
	case strings.HasSuffix(err.Error(), "type not registered for interface: "+base.String()):
		return fmt.Errorf("gob.Register(%s), or use session.NewKey[%s]", literal(t), t)
	}
	return err
}

// literal is a Go expression of type t.
func literal(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map, reflect.Slice, reflect.Array:
		return t.String() + "{}"
	case reflect.Pointer:
		return "new(" + t.Elem().String() + ")"
	case reflect.String:
		return t.String() + `("")`
	case reflect.Bool:
		return t.String() + "(false)"
	}
	return t.String() + "(0)"
}

// ownForm asks encoding/gob, once: the numbers depend on what the process has
// encoded before. It is nil if records look unlike those that gob_wire.go
// writes, as they might under a later Go: all then goes through encoding/gob.
var ownForm = sync.OnceValue(func() *gobForm {
	deadline, values := time.Unix(1, 2).UTC(), map[string]any{"key": "value"}
	probe, err := encodeGob(deadline, values)
	if err != nil {
		return nil
	}
	f, ok := formOf(string(probe))
	if !ok {
		return nil
	}
	if b, ok := f.encode(deadline, values); !ok || !bytes.Equal(b, probe) {
		return nil
	}
	return &f
})
