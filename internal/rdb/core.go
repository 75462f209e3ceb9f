package rdb

import (
	"context"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/redis/go-redis/v9"
)

// core is what all engines on one client share: how to reach it within a
// deadline, and its breakers.
type core struct {
	client redis.UniversalClient
	// send runs the commands and returns when all have their reply or error: when
	// ctx ends at the latest if keepsDeadlines, else when it likes.
	send           func(ctx context.Context, cmds []once, transaction bool)
	keepsDeadlines bool

	width   width                // how much a server's pool takes; 0 if it is not known
	breaker breaker              // of the client, but for a cluster that has answered
	cluster *redis.ClusterClient // nil for other clients
	loaded  atomic.Bool          // the cluster has answered, so its topology is known
	masters sync.Map             // address of a master → *breaker

	linkMu sync.Mutex
	link   *link // nil while nobody is subscribed
}

// cores finds the core of a client that is in use. Entries go when the last
// Conn on the client is collected, so the table does not grow; only a client
// that holds its own engine, by a hook, stays for good.
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

func newCore(client redis.UniversalClient) *core {
	c := &core{client: client}
	c.send = func(ctx context.Context, cmds []once, tx bool) { process(ctx, client, cmds, tx) }
	switch client := client.(type) {
	case *redis.Client:
		o := client.Options()
		// These are the user's code, run without a context during a handshake.
		c.keepsDeadlines = o.ContextTimeoutEnabled && o.CredentialsProvider == nil && o.StreamingCredentialsProvider == nil && o.Limiter == nil
		pipelines := o.PipelinePoolSize
		if pipelines == 0 {
			pipelines = redis.DefaultPipelinePoolSize
		}
		c.width = widthOf(o.PoolSize, pipelines)
	case *redis.ClusterClient:
		o := client.Options()
		// A read-only one asks for COMMAND under a context of its own.
		c.keepsDeadlines = o.ContextTimeoutEnabled && o.CredentialsProvider == nil && o.StreamingCredentialsProvider == nil && !o.ReadOnly
		c.cluster = client
		c.width = widthOf(o.PoolSize, 0)
	case *redis.Ring:
		o := client.Options()
		c.keepsDeadlines = o.ContextTimeoutEnabled && o.CredentialsProvider == nil && o.Limiter == nil
	case *redis.AutoPipeliner:
		if !client.IsBlocking() {
			c.send = func(ctx context.Context, cmds []once, tx bool) { submit(ctx, client, cmds, tx) }
		}
	}
	return c
}

// process sends one command, or several in one pipeline or transaction.
func process(ctx context.Context, client redis.UniversalClient, cmds []once, transaction bool) {
	if len(cmds) == 1 && !transaction {
		_ = client.Process(ctx, cmds[0]) // the error is the command's own
		return
	}
	if transaction {
		pipeline(ctx, client.TxPipeline(), cmds)
	} else {
		pipeline(ctx, client.Pipeline(), cmds)
	}
}

func pipeline(ctx context.Context, pipe redis.Pipeliner, cmds []once) {
	for _, cmd := range cmds {
		_ = pipe.Process(ctx, cmd)
	}
	_, _ = pipe.Exec(ctx)
}

// submit hands commands to a deferred auto-pipeliner, whose Process returns
// before the reply.
func submit(ctx context.Context, ap *redis.AutoPipeliner, cmds []once, transaction bool) {
	if transaction {
		process(ctx, ap, cmds, true)
		return
	}
	futures := make([]redis.AutoFuture, len(cmds))
	for i, cmd := range cmds {
		futures[i] = ap.Submit(ctx, cmd)
	}
	for _, f := range futures {
		_ = f.Wait()
	}
}

// manner is how commands are sent. The zero value leaves it to the client.
type manner struct {
	transaction bool   // as one MULTI … EXEC
	one         string // unless "", on one connection to the server of this key
}

// attempt runs cmds, all of b's server, until ctx ends. It reports whether they were
// all finished; if not, they must not be touched again.
func (c *core) attempt(ctx context.Context, b *breaker, cmds []once, how manner) (finished bool) {
	lane, shares := &b.lane, how == manner{}
	if c.width.direct > 0 && shares && !lane.enter(c.width) {
		return c.ride(ctx, lane, cmds)
	}
	if !shares || c.width.direct == 0 {
		lane = nil // not counted
	}
	if c.keepsDeadlines {
		if lane != nil {
			defer lane.leave()
		}
		c.dispatch(ctx, cmds, how)
		return true
	}
	done := make(chan any, 1)
	go func() {
		// A hook of the user's may panic: bring that to the caller's goroutine,
		// where net/http or the caller recovers it, instead of ending the process.
		defer func() { done <- recover() }()
		if lane != nil {
			defer lane.leave()
		}
		c.dispatch(ctx, cmds, how)
	}()
	return await(ctx, done)
}

func (c *core) dispatch(ctx context.Context, cmds []once, how manner) {
	if how.one != "" {
		c.sendAsOne(ctx, how.one, cmds)
		return
	}
	c.send(ctx, cmds, how.transaction)
}

// await waits until done tells of the end, or ctx ends. It panics with what done
// brings, unless that is nil.
func await(ctx context.Context, done <-chan any) (finished bool) {
	select {
	case p := <-done:
		if p != nil {
			panic(p)
		}
		return true
	case <-ctx.Done():
	}
	select {
	case p := <-done: // the reply came with the deadline
		if p != nil {
			panic(p)
		}
		return true
	default:
		return false
	}
}

// breakerOf is the breaker in charge of key: that of its master, or the client's
// own while the topology is unknown. MasterForKey does no I/O once it is known.
func (c *core) breakerOf(ctx context.Context, key string) *breaker {
	if c.cluster == nil || !c.loaded.Load() {
		return &c.breaker
	}
	master, err := c.cluster.MasterForKey(ctx, key)
	if err != nil {
		return &c.breaker
	}
	addr := master.Options().Addr
	if b, ok := c.masters.Load(addr); ok {
		return b.(*breaker)
	}
	b, _ := c.masters.LoadOrStore(addr, new(breaker))
	return b.(*breaker)
}

// Server stands for the server that holds key, on a Cluster its master: the same
// value for the same server, as far as that is known. It does no I/O.
func (c *Conn) Server(ctx context.Context, key string) any { return c.core.breakerOf(ctx, key) }

// started anchors the breakers' clock; durations since it are monotonic.
var started = time.Now()

func now() int64 { return int64(time.Since(started)) }
