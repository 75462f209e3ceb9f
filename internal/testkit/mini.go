package testkit

import (
	"context"
	"net"
	"testing"

	"github.com/alicebob/miniredis/v2"
)

// Mini is miniredis on a loopback port: Redis in the process, started in less
// than a millisecond, with a Lua of its own. Keys expire by the wall clock, as
// in Redis and unlike in miniredis by default, so that one contract fits both;
// [Backend.Miniredis] has SetTime and FastForward.
//
// It is no proof for what only Redis does: it never says CROSSSLOT, and Lua,
// eviction and persistence are imitations.
func Mini(tb testing.TB) *Backend {
	tb.Helper()
	m := miniredis.RunT(tb)
	m.ClockTTL(true)
	return &Backend{name: "mini", addrs: []string{m.Addr()}, mini: m}
}

// Memory is miniredis without a socket, for use inside a bubble of
// [testing/synctest]: its clients speak over pipes, which count as durably
// blocked, and its TIME and expiry follow the bubble's clock. Only
// [Backend.Client] reaches it.
func Memory(tb testing.TB) *Backend {
	tb.Helper()
	m := miniredis.NewMiniRedis()
	m.ClockTTL(true)
	tb.Cleanup(m.Close)
	return &Backend{
		name: "memory",
		mini: m,
		dial: func(context.Context, string, string) (net.Conn, error) { return m.Dial() },
	}
}
