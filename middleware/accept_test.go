package middleware_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
)

func TestPrefersText(t *testing.T) {
	t.Parallel()
	tests := []struct {
		accept string
		want   bool
	}{
		{"", false},
		{"*/*", false},
		{"text/plain", true},
		{"TEXT/Plain", true},
		{"text/plain;charset=utf-8", true},
		{`text/plain; charset="UTF-8"`, true},
		{"text/*", true},
		{"text/html", false}, // neither: a problem, not 406
		{"image/png, text/html;q=0.3", false},
		{"application/problem+json", false},
		{"application/problem+json, text/plain", false}, // a tie
		{"text/plain;q=0.5, application/problem+json;q=0.4", true},
		{"text/plain;q=0.5, application/problem+json;q=0.5", false},
		{"text/plain;q=0.5, application/problem+json;q=0.501", false},
		{"text/plain;q=0.501, application/problem+json;q=0.5", true},
		{"text/plain ; Q=0.9 , application/* ;q=0.1", true},
		{"text/plain, application/*", false},
		{"text/plain;q=0, */*", false},
		{"application/problem+json;q=0, */*", true}, // the more specific range counts
		{"*/*, application/problem+json;q=0", true},
		{"text/*;q=0.1, text/plain;q=0.9, */*;q=0.5", true},
		{"text/*;q=0.9, text/plain;q=0.1, */*;q=0.5", false},
		{"text/plain;q=0.2, text/plain;q=0.8, */*;q=0.5", true}, // of equals the kindest
		{"application/json, text/plain, */*", false},            // axios
		{"application/json", false},
		{"application/json, text/plain;q=0.5", false}, // reads JSON, hence a problem
		{"application/json;q=0.1, text/plain", true},
		{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false}, // a browser
		{"text/plain;format=flowed", false},                                        // not what is sent
		{"application/problem+json;v=2, text/plain;q=0.1", true},
		{"application/problem+json;v=2;q=1, text/plain;q=0", false},
		{`application/x;t="a,text/plain,b";q=1`, false}, // a comma in quotes is none
		{`application/x;t="a\",text/plain,b";q=1, text/plain`, true},
		{"text/plain;q=1.000", true},
		// Malformed members are as if not there.
		{"text/plain;q=1.001", false},
		{"text/plain;q=2", false},
		{"text/plain;q=.5", false},
		{"text/plain;q=0.1234", false},
		{"text/plain;q=", false},
		{"text/plain;q", false},
		{"text/plain;q=a", false},
		{"text/plain;q=-1", false},
		{"text/plain;=1", false},
		{"text", false},
		{"/", false},
		{"text/", false},
		{"*/plain", false},
		{"text /plain", false},
		{"te@xt/plain, text/plain", true},
		{"; ,, ;q=1,text/plain;;", true},
		{`"text/plain`, false},
	}
	for _, tt := range tests {
		h := http.Header{}
		if tt.accept != "" {
			h.Set("Accept", tt.accept)
		}
		if got := middleware.PrefersText(h); got != tt.want {
			t.Errorf("%q: %v; want %v", tt.accept, got, tt.want)
		}
	}
	if lines := (http.Header{"Accept": {"*/*;q=0.1", "", "text/plain"}}); !middleware.PrefersText(lines) {
		t.Error("only the first line of Accept was read")
	}
}

// Any Accept has an answer; what is added without meaning changes none; and what
// only one type is named in gets that type.
//
// Red when cutUnquoted looks into quoted strings.
func FuzzPrefersText(f *testing.F) {
	for _, seed := range []string{"", "*/*", "text/plain", "text/plain;q=0.5, */*;q=0.1", `a/b;c="d,e\";"`, "text/*;q=0", "application/problem+json;q=0.123", ";;,,", `"`, "text/plain;q=0."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		prefers := func(lines ...string) bool { return middleware.PrefersText(http.Header{"Accept": lines}) }
		got := prefers(accept)
		if again := prefers(accept, "", "image/png;q=0.7", ";", "*/text"); again != got {
			t.Errorf("%q: %v, then %v", accept, got, again)
		}
		if got && !strings.Contains(strings.ToLower(accept), "text/") && !strings.Contains(accept, "*/*") {
			t.Errorf("%q prefers text without naming it", accept)
		}
		if lower := strings.ToLower(accept); got && !strings.Contains(lower, "/*") && !strings.Contains(lower, "text/plain") {
			t.Errorf("%q prefers text without naming it", accept)
		}
	})
}

// Every refusal of RateLimit comes in the type that the client prefers, and only
// the words differ.
//
// Red when a refusal is written without asking prefersText.
func TestRateLimit_negotiates(t *testing.T) {
	t.Parallel()
	broken := &brokenRedis{err: errUnreachable}
	closed := newLimiter(t, broken, ratelimit.PerHour(1), ratelimit.WithFailClosed())
	local := newLimiter(t, broken, ratelimit.PerHour(1))
	noKey := func(*http.Request) (string, error) { return "", middleware.ErrNoKey }
	failing := func(*http.Request) (string, error) { return "", errUnreachable }
	tests := []struct {
		status int
		text   string
		h      middleware.Middleware
	}{
		{429, "Too many requests\nThe limit of 1 per 1h0m0s is reached.\n", middleware.RateLimit(local, fixedKey("k"))},
		{503, "Temporarily unavailable\nThe request could not be decided in time. Try again shortly.\n", middleware.RateLimit(closed, fixedKey("k"))},
		{400, "Bad Request\nThe request does not say whom it is from.\n", middleware.RateLimit(local, noKey)},
		{500, "Internal Server Error\n", middleware.RateLimit(local, failing)},
		{403, "Forbidden\nThe request comes from an address that is shut out.\n", middleware.RateLimit(local, fixedKey("k"), middleware.WithDenyList(prefix("192.0.2.0/24")))},
	}
	for _, tt := range tests {
		h := tt.h(new(countedHandler))
		if tt.status == 429 {
			ask(h, "192.0.2.1")
		}
		for _, accept := range []string{"", "text/plain"} {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = "192.0.2.1:4711"
			r.Header.Set("Accept", accept)
			got := answerTo(h, r)
			if accept == "" {
				checkProblem(t, got, tt.status)
				continue
			}
			body, _ := io.ReadAll(got.Body)
			if got.StatusCode != tt.status || string(body) != tt.text || got.Header.Get("Content-Type") != "text/plain; charset=utf-8" ||
				got.Header.Get("Cache-Control") != "no-store" || got.Header.Get("Content-Length") != fmt.Sprint(len(body)) || got.Header.Get("Vary") != "" {
				t.Errorf("%d: %d %q %v; want %q", tt.status, got.StatusCode, body, got.Header, tt.text)
			}
			if after := got.Header.Get("Retry-After"); (after != "") != (tt.status == 429 || tt.status == 503) {
				t.Errorf("%d: Retry-After %q", tt.status, after)
			}
		}
	}
}
