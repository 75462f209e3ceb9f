package quota_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/ratelimit/quota"
)

// Every mistake is told, names what was written, and says what to write instead.
func TestNew_mistakes(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { _ = client.Close() })
	var unassigned *redis.Client
	tests := []struct {
		name    string
		client  redis.UniversalClient
		options []quota.Option
		want    []string // one for each line: all its parts, between "…"
	}{
		{"nil client", nil, nil, []string{"client is nil…redis.NewClient"}},
		{"unassigned client", unassigned, nil, []string{"client is nil…redis.NewClient"}},
		{"nil option", client, []quota.Option{quota.WithName("x"), nil}, []string{"option 2 is nil…leave it out"}},
		{"no budget", client, []quota.Option{quota.WithTimeout(0)}, []string{"WithTimeout(0s)…from 1ms to 30s…50ms"}},
		{"long budget", client, []quota.Option{quota.WithTimeout(time.Minute)}, []string{"WithTimeout(1m0s)…to 30s"}},
		{"empty prefix", client, []quota.Option{quota.WithPrefix("")}, []string{`WithPrefix("")…letters`}},
		{"brace in prefix", client, []quota.Option{quota.WithPrefix("a{b}")}, []string{`WithPrefix("a{b}")…letters`}},
		{"short memory", client, []quota.Option{quota.WithIDLifetime(time.Minute - 1)}, []string{"WithIDLifetime(59.999999999s)…from 1m0s…to 8784h0m0s…24h"}},
		{"long memory", client, []quota.Option{quota.WithIDLifetime(1 << 62)}, []string{"WithIDLifetime(…to 8784h0m0s"}},
		{"no ids", client, []quota.Option{quota.WithMaxIDs(0)}, []string{"WithMaxIDs(0)…from 1…100000"}},
		{"many ids", client, []quota.Option{quota.WithMaxIDs(10_000_001)}, []string{"WithMaxIDs(10000001)…to 10000000"}},
		{"no hold", client, []quota.Option{quota.WithHold(0)}, []string{"WithHold(0s)…from 1ms to 8784h0m0s…1m0s"}},
		{"long hold", client, []quota.Option{quota.WithHold(367 * 24 * time.Hour)}, []string{"WithHold(8808h0m0s)…to 8784h0m0s"}},
		{"no holds", client, []quota.Option{quota.WithMaxHolds(-1)}, []string{"WithMaxHolds(-1)…from 1 to 100000…1000"}},
		{"many holds", client, []quota.Option{quota.WithMaxHolds(100_001)}, []string{"WithMaxHolds(100001)…to 100000"}},
		{"all at once", nil, []quota.Option{
			quota.WithTimeout(time.Hour), quota.WithPrefix(" "), nil, quota.WithIDLifetime(0), quota.WithMaxIDs(0), quota.WithHold(0), quota.WithMaxHolds(0),
		}, []string{"option 3", "WithPrefix", "WithIDLifetime", "WithMaxIDs", "WithHold(", "WithMaxHolds", "client is nil", "WithTimeout"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, err := quota.New(tt.client, tt.options...)
			if l != nil || !errors.Is(err, quota.ErrConfig) {
				t.Fatalf("= %v, %v; want an error of kind ErrConfig", l, err)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tt.want) {
				t.Errorf("%d mistakes; want %d:\n%v", len(lines), len(tt.want), err)
			}
			for i, want := range tt.want {
				for _, part := range strings.Split(want, "…") {
					if i < len(lines) && !strings.Contains(lines[i], part) {
						t.Errorf("line %q; want %q", lines[i], want)
					}
				}
			}
			for _, line := range lines {
				if !strings.HasPrefix(line, "quota.New: invalid configuration: ") {
					t.Errorf("line %q; want it to begin with the function and the kind", line)
				}
			}
		})
	}
	least := []quota.Option{quota.WithTimeout(time.Millisecond), quota.WithIDLifetime(time.Minute), quota.WithMaxIDs(1), quota.WithHold(time.Millisecond), quota.WithMaxHolds(1)}
	greatest := []quota.Option{quota.WithTimeout(30 * time.Second), quota.WithIDLifetime(366 * 24 * time.Hour), quota.WithMaxIDs(10_000_000), quota.WithHold(366 * 24 * time.Hour), quota.WithMaxHolds(100_000)}
	for _, options := range [][]quota.Option{nil, least, greatest} {
		if _, err := quota.New(client, options...); err != nil {
			t.Errorf("at the bounds: %v", err)
		}
	}
}
