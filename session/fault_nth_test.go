package session_test

import (
	"context"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
)

// nth arms the proxy right before the n-th command or pipeline.
type nth struct {
	mu    sync.Mutex
	n     int
	often int
	p     *testkit.Proxy
	then  testkit.Then
	seen  []string
}

func (h *nth) count(cmds ...redis.Cmder) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []string
	for _, c := range cmds {
		names = append(names, c.Name())
	}
	h.seen = append(h.seen, strings.Join(names, "+"))
	if h.n--; h.n == 0 {
		h.p.SwallowReply(h.often, "", h.then)
	}
}
func (h *nth) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h *nth) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { h.count(cmds...); return next(ctx, cmds) }
}
func (h *nth) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { h.count(cmd); return next(ctx, cmd) }
}

func (h *nth) off() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n = 1 << 30
}
