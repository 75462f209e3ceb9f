package middleware_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
)

// serveChild serves h in a child until its parent wants its end, and tells the parent
// where.
func serveChild(ctx context.Context, h http.Handler) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: h, ErrorLog: quiet}
	go func() { <-ctx.Done(); server.Close() }()
	testkit.Emit("http://" + listener.Addr().String())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// openChildren starts n processes of a role that serves, and returns where they are.
func openChildren(t *testing.T, n int, role string, config any) (children *testkit.Processes, addrs []string) {
	t.Helper()
	args, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	children = testkit.Spawn(t, n, role, string(args))
	addrs = make([]string, n)
	for range n {
		line := children.Next()
		if err := json.Unmarshal(line.JSON, &addrs[line.Child]); err != nil {
			t.Fatal(err)
		}
	}
	return children, addrs
}

// spread says how a number of durations are distributed. It sorts them.
func spread(all []time.Duration) string {
	if len(all) == 0 {
		return "none"
	}
	slices.Sort(all)
	at := func(share float64) time.Duration {
		return all[min(len(all)-1, int(share*float64(len(all))))].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %v, p90 %v, p99 %v, max %v of %d", at(0.5), at(0.9), at(0.99), at(1), len(all))
}
