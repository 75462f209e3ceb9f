package ratelimit_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/ratelimit"
)

// Every mistake is told, names what was written, and says what to write instead.
func TestNew_mistakes(t *testing.T) {
	t.Parallel()
	client := new(silent)
	ok := ratelimit.PerSecond(1)
	var unassigned *redis.Client
	tests := []struct {
		name    string
		client  redis.UniversalClient
		limit   ratelimit.Limit
		options []ratelimit.Option
		want    []string // one for each line: all its parts, between "…"
	}{
		{"nil client", nil, ok, nil, []string{"client is nil…redis.NewClient"}},
		{"unassigned client", unassigned, ok, nil, []string{"client is nil…redis.NewClient"}},
		{"no requests", client, ratelimit.PerSecond(0), nil, []string{"limit 0 per 1s…at least 1…do not mount"}},
		{"negative requests", client, ratelimit.PerHour(-5), nil, []string{"limit -5 per 1h0m0s…at least 1"}},
		{"too many requests", client, ratelimit.PerHour(math.MaxInt32 + 1), nil, []string{"limit 2147483648 per 1h0m0s…at most 2147483647"}},
		{"no window", client, ratelimit.Every(1, 0), nil, []string{"limit 1 per 0s…from 1ms to 8784h0m0s"}},
		{"negative window", client, ratelimit.Every(1, -time.Second), nil, []string{"limit 1 per -1s…from 1ms"}},
		{"short window", client, ratelimit.Every(1, 999*time.Microsecond), nil, []string{"limit 1 per 999µs…from 1ms"}},
		{"long window", client, ratelimit.Every(1, 367*24*time.Hour), nil, []string{"limit 1 per 8808h0m0s…to 8784h0m0s"}},
		{"zero limit", client, ratelimit.Limit{}, nil, []string{"limit 0 per 0s…at least 1", "limit 0 per 0s…window of 0s must be from 1ms"}},
		{"a tier", client, ok, []ratelimit.Option{ratelimit.PerMinute(0)}, []string{"limit 0 per 1m0s…at least 1"}},
		{"one window twice", client, ok, []ratelimit.Option{ratelimit.Every(5, time.Second)}, []string{"limits 1 per 1s and 5 per 1s have one window…keep the lower"}},
		{"nil option", client, ok, []ratelimit.Option{ratelimit.PerMinute(2), nil}, []string{"option 2 is nil…leave it out"}},
		{"no budget", client, ok, []ratelimit.Option{ratelimit.WithTimeout(0)}, []string{"WithTimeout(0s)…from 1ms to 30s…50ms"}},
		{"negative budget", client, ok, []ratelimit.Option{ratelimit.WithTimeout(-time.Second)}, []string{"WithTimeout(-1s)…from 1ms"}},
		{"long budget", client, ok, []ratelimit.Option{ratelimit.WithTimeout(time.Minute)}, []string{"WithTimeout(1m0s)…to 30s"}},
		{"no instances", client, ok, []ratelimit.Option{ratelimit.WithInstances(0)}, []string{"WithInstances(0)…at least 1…processes"}},
		{"negative instances", client, ok, []ratelimit.Option{ratelimit.WithInstances(-1)}, []string{"WithInstances(-1)…at least 1"}},
		{"open and closed", client, ok, []ratelimit.Option{ratelimit.WithFailOpen(), ratelimit.WithFailClosed()}, []string{"WithFailOpen and WithFailClosed…keep one"}},
		{"empty prefix", client, ok, []ratelimit.Option{ratelimit.WithPrefix("")}, []string{`WithPrefix("")…letters`}},
		{"brace in prefix", client, ok, []ratelimit.Option{ratelimit.WithPrefix("a{b}")}, []string{`WithPrefix("a{b}")…letters`}},
		{"all at once", nil, ratelimit.PerSecond(0), []ratelimit.Option{
			ratelimit.Every(5, 0), ratelimit.WithTimeout(time.Hour), ratelimit.WithInstances(0),
			ratelimit.WithPrefix(" "), ratelimit.WithFailOpen(), ratelimit.WithFailClosed(), nil,
		}, []string{
			"option 7 is nil", "limit 0 per 1s", "limit 5 per 0s", "WithPrefix", "WithInstances(0)",
			"WithFailOpen and WithFailClosed", "client is nil", "WithTimeout(1h0m0s)",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			limiter, err := ratelimit.New(tt.client, tt.limit, tt.options...)
			if limiter != nil || !errors.Is(err, ratelimit.ErrConfig) {
				t.Fatalf("= %v, %v; want an error of kind ErrConfig", limiter, err)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tt.want) {
				t.Errorf("%d mistakes; want %d:\n%v", len(lines), len(tt.want), err)
			}
			for _, want := range tt.want {
				if !anyHas(lines, strings.Split(want, "…")) {
					t.Errorf("no line has %q:\n%v", want, err)
				}
			}
			for _, line := range lines {
				if !strings.HasPrefix(line, "ratelimit.New: invalid configuration: ") {
					t.Errorf("line %q; want it to begin with the function and the kind", line)
				}
			}
		})
	}
}

// anyHas reports whether a line has all parts, in their order.
func anyHas(lines, parts []string) bool {
next:
	for _, line := range lines {
		for _, part := range parts {
			_, rest, found := strings.Cut(line, part)
			if !found {
				continue next
			}
			line = rest
		}
		return true
	}
	return false
}

// The bounds themselves are allowed.
func TestNew_bounds(t *testing.T) {
	t.Parallel()
	for _, limit := range []ratelimit.Limit{ratelimit.Every(1, time.Millisecond), ratelimit.Every(math.MaxInt32, 366*24*time.Hour)} {
		for _, budget := range []time.Duration{time.Millisecond, 30 * time.Second} {
			limiter, err := ratelimit.New(new(silent), limit, ratelimit.WithTimeout(budget), ratelimit.WithPrefix("a:b-c_d.e"), ratelimit.WithName(""))
			if err != nil {
				t.Fatalf("%v, WithTimeout(%v): %v", limit, budget, err)
			}
			limiter.Limits()[0] = ratelimit.Limit{}
			if got := limiter.Limits(); len(got) != 1 || got[0] != limit {
				t.Errorf("Limits() = %v; want [%v]", got, limit)
			}
		}
	}
}

func TestLimit_String(t *testing.T) {
	t.Parallel()
	tests := map[string]ratelimit.Limit{
		"10 per 1s":    ratelimit.PerSecond(10),
		"10 per 1m0s":  ratelimit.PerMinute(10),
		"5 per 1h0m0s": ratelimit.PerHour(5),
		"100 per 2s":   ratelimit.Every(100, 2*time.Second+999*time.Nanosecond),
	}
	for want, limit := range tests {
		if got := limit.String(); got != want {
			t.Errorf("got %q; want %q", got, want)
		}
	}
}
