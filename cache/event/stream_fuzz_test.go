package event_test

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
)

// Whatever position a client sends and whatever bytes others add: an entry or an error
// of a known kind, and no panic.
func FuzzStream_read(f *testing.F) {
	f.Add("0", []byte(`{"N":1}`), "v")
	f.Add("$", []byte(`{`), "v")
	f.Add("1-1", []byte{}, "n")
	f.Add("18446744073709551615-18446744073709551615", []byte("9223372036854775808"), "n")
	f.Add("01-1\r\n", []byte("x"), "g")
	b := testkit.Mini(f)
	client := b.Client(f)
	s := openStream(f, client, "weir")
	f.Fuzz(func(t *testing.T, position string, data []byte, field string) {
		b.Miniredis().FlushAll()
		if err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: "weir:stream:{sales}", Values: []any{field, data}}).Err(); err != nil {
			t.Skip(err)
		}
		if _, err := s.Read(t.Context(), position, 10); err != nil && !errors.Is(err, event.ErrPosition) {
			t.Errorf("position %q: %v; want a page or ErrPosition", position, err)
		}
		page, err := s.Read(t.Context(), event.Oldest, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			if e.Err != nil && !errors.Is(e.Err, event.ErrCorrupt) || e.Err != nil && e.Value != (sale{}) || e.ID == "" || e.Time().IsZero() {
				t.Errorf("%q=%q: %+v", field, data, e)
			}
		}
	})
}
