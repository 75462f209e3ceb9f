package demo_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/examples/internal/demo"
	"github.com/go-weir/weir/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestRedis_forms(t *testing.T) {
	t.Parallel()
	quiet := slog.New(slog.DiscardHandler)
	tests := []struct {
		url, want string
		tls       bool
	}{
		{"redis://127.0.0.1:1/3", "single", false},
		{"rediss://127.0.0.1:1", "single", true},
		{"redis+cluster://127.0.0.1:1", "cluster", false},
		{"rediss+cluster://127.0.0.1:1?addr=127.0.0.1:2", "cluster", true},
		{"redis://127.0.0.1:1?addr=127.0.0.1:2", "cluster", false},
		{"redis+sentinel://127.0.0.1:1?master_name=m", "single", false},
		{"rediss://127.0.0.1:1?master_name=m&addr=127.0.0.1:2", "single", true},
	}
	for _, tt := range tests {
		client, stop, err := demo.Redis(tt.url, quiet)
		if err != nil {
			t.Errorf("%s: %v", tt.url, err)
			continue
		}
		kind, tls := "", false
		switch client := client.(type) {
		case *redis.Client:
			kind, tls = "single", client.Options().TLSConfig != nil
		case *redis.ClusterClient:
			kind, tls = "cluster", client.Options().TLSConfig != nil
		}
		stop()
		if kind != tt.want || tls != tt.tls {
			t.Errorf("%s: a %s client, TLS %v; want %s, %v", tt.url, kind, tls, tt.want, tt.tls)
		}
	}
}

// A password in a URL that cannot be used does not reach the log.
func TestRedis_mistakesKeepSecrets(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"http://u:hunter2@h", "redis://u:hunter2@", "redis://u:hunter2@h:port", "redis+moon://u:hunter2@h",
		"redis://u:hunter2@h/x/y", "redis+sentinel://u:hunter2@h", "redis://u:hunter2@h?nope=1", "%zz",
	} {
		_, _, err := demo.Redis(url, slog.New(slog.DiscardHandler))
		if err == nil {
			t.Errorf("%s: no error", url)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), demo.Forms) {
			t.Errorf("%s: %v; want the forms and no password", url, err)
		}
	}
}

func TestRedis_tellsOfTheConnection(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	b.Kill()
	var log testkit.Buffer
	_, stop, err := demo.Redis("redis://"+b.Addrs()[0], slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	says := func(event string) {
		t.Helper()
		testkit.Eventually(t, event, func() bool { return strings.Contains(log.String(), event) })
	}
	says("redis: not reached yet")
	b.Restart(t)
	says("redis: connected")
	b.Kill()
	says("redis: lost")
	b.Restart(t)
	says("redis: reconnected")
}
