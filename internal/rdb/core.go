package rdb

import (
	"context"
	"reflect"
	"runtime"
	"sync"
	"time"
	"weak"

	"github.com/redis/go-redis/v9"
)

// core is what all engines on one client share: how to reach it within a
// deadline, and its breakers.
type core struct {
	client redis.UniversalClient
	// send runs the commands and returns when all have their reply or error. It
	// ends with ctx if bounded, else when it likes.
	send    func(ctx context.Context, cmds []once)
	bounded bool

	breakers []breaker
}

// cores finds the core of a client that is in use. Entries go when the last
// Conn on the client is collected, so the table neither keeps clients alive nor
// grows.
var cores = struct {
	sync.Mutex
	m map[redis.UniversalClient]weak.Pointer[core]
}{m: make(map[redis.UniversalClient]weak.Pointer[core])}

// coreOf returns the core shared by all engines on client.
func coreOf(client redis.UniversalClient) *core {
	if !reflect.ValueOf(client).Comparable() {
		// A client type of the user's own that cannot be a map key.
		return newCore(client)
	}
	cores.Lock()
	defer cores.Unlock()
	if c := cores.m[client].Value(); c != nil {
		return c
	}
	c := newCore(client)
	w := weak.Make(c)
	cores.m[client] = w
	runtime.AddCleanup(c, func(client redis.UniversalClient) {
		cores.Lock()
		defer cores.Unlock()
		if cores.m[client] == w { // not replaced meanwhile
			delete(cores.m, client)
		}
	}, client)
	return c
}

// slotsPerBreaker divides a Cluster's 16384 slots. Masters own ranges of slots,
// so a dead one silences the breakers of its ranges and no others.
const slotsPerBreaker = 256

func newCore(client redis.UniversalClient) *core {
	c := &core{client: client, breakers: make([]breaker, 1)}
	c.send = func(ctx context.Context, cmds []once) { process(ctx, client, cmds) }
	switch client := client.(type) {
	case *redis.Client:
		c.bounded = client.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		c.bounded = client.Options().ContextTimeoutEnabled
		c.breakers = make([]breaker, 16384/slotsPerBreaker)
	case *redis.Ring:
		c.bounded = client.Options().ContextTimeoutEnabled
	case *redis.AutoPipeliner:
		if !client.IsBlocking() {
			c.send = func(ctx context.Context, cmds []once) { submit(ctx, client, cmds) }
		}
	}
	return c
}

// process sends one command, or several in one pipeline.
func process(ctx context.Context, client redis.UniversalClient, cmds []once) {
	if len(cmds) == 1 {
		_ = client.Process(ctx, cmds[0]) // the error is the command's own
		return
	}
	pipe := client.Pipeline()
	for _, cmd := range cmds {
		_ = pipe.Process(ctx, cmd)
	}
	_, _ = pipe.Exec(ctx)
}

// submit hands commands to a deferred auto-pipeliner, whose Process returns
// before the reply.
func submit(ctx context.Context, ap *redis.AutoPipeliner, cmds []once) {
	futures := make([]redis.AutoFuture, len(cmds))
	for i, cmd := range cmds {
		futures[i] = ap.Submit(ctx, cmd)
	}
	for _, f := range futures {
		_ = f.Wait()
	}
}

// attempt runs cmds until ctx ends. It reports whether they were all finished;
// if not, they must not be touched again.
func (c *core) attempt(ctx context.Context, cmds []once) (finished bool) {
	if c.bounded {
		c.send(ctx, cmds)
		return true
	}
	done := make(chan any, 1)
	go func() {
		// A hook of the user's may panic: bring that to the caller's goroutine,
		// where net/http or the caller recovers it, instead of ending the process.
		defer func() { done <- recover() }()
		c.send(ctx, cmds)
	}()
	select {
	case p := <-done:
		if p != nil {
			panic(p)
		}
		return true
	case <-ctx.Done():
		return false
	}
}

// breakerOf is the breaker in charge of key.
func (c *core) breakerOf(key string) *breaker {
	if len(c.breakers) == 1 {
		return &c.breakers[0]
	}
	return &c.breakers[slot(key)/slotsPerBreaker]
}

// started anchors the breakers' clock; durations since it are monotonic.
var started = time.Now()

func now() int64 { return int64(time.Since(started)) }
