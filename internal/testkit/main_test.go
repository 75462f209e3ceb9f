package testkit_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/redis/go-redis/v9"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// noRetry makes a client do a thing once and say what happened.
func noRetry(o *redis.Options) {
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.ReadTimeout = 200 * time.Millisecond
}

func noRetryUniversal(o *redis.UniversalOptions) {
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.ReadTimeout = 200 * time.Millisecond
}

// refuses reports whether nobody listens at addr.
func refuses(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return true
	}
	conn.Close()
	return false
}

// get is the value of key as another client sees it.
func get(t *testing.T, client redis.UniversalClient, key string) string {
	t.Helper()
	value, err := client.Get(context.Background(), key).Result()
	if err != nil {
		t.Fatalf("GET %s: %v", key, err)
	}
	return value
}
