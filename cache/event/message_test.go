package event_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-weir/weir/cache/event"
)

// What is sealed is what is unsealed, whatever characters it has.
func FuzzSeal(f *testing.F) {
	f.Add("id", "key", []byte(`{"N":1}`))
	f.Add("", "", []byte(nil))
	f.Add("a b\n%+", "weir1 ", []byte("\n\x00\xff"))
	f.Fuzz(func(t *testing.T, id, key string, data []byte) {
		gotID, gotKey, at, body, err := event.Unseal(event.Seal(id, key, data))
		if err != nil || gotID != id || gotKey != key || body != string(data) || !at.Equal(time.UnixMicro(1700000000000001)) {
			t.Errorf("got %q, %q, %v, %q, %v; want %q, %q, %q", gotID, gotKey, at, body, err, id, key, data)
		}
	})
}

// Whatever comes in is taken apart without a panic, and none of its bytes is lost: they
// are all in the body, but for a header that was understood.
func FuzzUnseal(f *testing.F) {
	for _, payload := range []string{"", "weir", "weir1", "weir1 ", "weir1 a 5 b\nx", "weir1 a b c\n", "weir9 x\n", "weir1 %a 5 b\nx", "weir1 a 5 %\n", `{"weir1 ":1}`} {
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		id, key, at, body, err := event.Unseal(payload)
		if err != nil {
			if !errors.Is(err, event.ErrCorrupt) || body != payload || id+key != "" {
				t.Errorf("%q: got %q, %q, body %q, %v; want all of it in the body, ErrCorrupt", payload, id, key, body, err)
			}
			return
		}
		header, found := strings.CutSuffix(payload, body)
		if !found {
			t.Errorf("%q: body %q is not its end", payload, body)
		}
		if header == "" && (id != "" || key != "" || !at.IsZero()) {
			t.Errorf("%q: got %q, %q, %v out of no header", payload, id, key, at)
		}
		if header != "" && !strings.HasPrefix(header, "weir1 ") {
			t.Errorf("%q: header %q is not ours", payload, header)
		}
	})
}
