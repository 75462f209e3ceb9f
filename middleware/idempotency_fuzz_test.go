package middleware_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-weir/weir/cache/idempotency"
	"github.com/go-weir/weir/middleware"
)

func FuzzReadIdempotencyKey(f *testing.F) {
	for _, seed := range []string{`"a"`, "a", `"\""`, `"\\"`, "", `"`, "a b", `"a";x`, "8e03978e-40d5-43dd-bc93-6894a57f9324"} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, text string, quoted bool) {
		key, err := middleware.ReadIdempotencyKey([]string{text}, quoted)
		if err != nil {
			if key != "" {
				t.Errorf("%q beside %v", key, err)
			}
			return
		}
		if len(key) < 1 || len(key) > 255 || strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }) {
			t.Errorf("%q is not 1 to 255 visible ASCII", key)
		}
		// What was read is read again as the same, in quotes.
		again, err := middleware.ReadIdempotencyKey([]string{`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`}, true)
		if err != nil || again != key {
			t.Errorf("%q, %v; want %q", again, err, key)
		}
		if bare := strings.Trim(text, " \t"); quoted && bare[0] != '"' {
			t.Errorf("%q was taken without quotes", text)
		}
	})
}

func FuzzDecodeAnswer(f *testing.F) {
	f.Add(string(middleware.EncodedAnswer(201, "Location", "/7", []byte("body"))))
	f.Add("\x01\x01\x00")
	f.Add("")
	f.Fuzz(func(t *testing.T, data string) {
		status, body, noted, err := middleware.ReplayedAnswer(data)
		if err != nil {
			if !errors.Is(err, idempotency.ErrCorrupt) {
				t.Errorf("%v; want ErrCorrupt", err)
			}
			return
		}
		if status > 599 || !noted && status < 200 || len(body) > len(data) {
			t.Errorf("status %d, %d bytes of %d", status, len(body), len(data))
		}
	})
}
