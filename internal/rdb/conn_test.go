package rdb_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/internal/testkit"
)

func open(t testing.TB, client redis.UniversalClient, budget time.Duration) *rdb.Conn {
	t.Helper()
	conn, err := rdb.Open(client, budget)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// relaxed is a budget for tests that are not about time.
const relaxed = 10 * time.Second

// clients are the kinds of client a user may inject.
func clients(t *testing.T, b *testkit.Backend) map[string]redis.UniversalClient {
	t.Helper()
	kinds := map[string]redis.UniversalClient{
		"plain":        b.Client(t),
		"with context": b.Client(t, func(o *redis.UniversalOptions) { o.ContextTimeoutEnabled = true }),
	}
	blocking, err := b.Client(t).AutoPipeline()
	if err != nil {
		t.Fatal(err)
	}
	deferred, err := b.Client(t).AsyncAutoPipeline()
	if err != nil {
		t.Fatal(err)
	}
	kinds["autopipeline"], kinds["async autopipeline"] = blocking, deferred
	return kinds
}

func TestConn_contract(t *testing.T) {
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		for kind, client := range clients(t, b) {
			t.Run(kind, func(t *testing.T) {
				conn, prefix := open(t, client, relaxed), b.Prefix(t)
				t.Run("a command", func(t *testing.T) { testCommand(t, conn, prefix) })
				t.Run("several at once", func(t *testing.T) { testSeveral(t, conn, prefix) })
				t.Run("a script", func(t *testing.T) { testScript(t, conn, prefix) })
				t.Run("errors have kinds", func(t *testing.T) { testKinds(t, conn, prefix) })
			})
		}
	})
}

func testCommand(t *testing.T, conn *rdb.Conn, prefix string) {
	key := rdb.Key(prefix, "k", "one")
	get := rdb.NewCmd(key, "get", key)
	if err := conn.Exec(t.Context(), get); err != nil || get.Val() != nil {
		t.Fatalf("GET of nothing = %v, %v; want nil, nil", get.Val(), err)
	}
	if err := conn.Exec(t.Context(), rdb.NewCmd(key, "set", key, "v", "px", 60_000)); err != nil {
		t.Fatal(err)
	}
	get = rdb.NewCmd(key, "get", key)
	if err := conn.Exec(t.Context(), get); err != nil {
		t.Fatal(err)
	}
	if got, ok := get.Text(); got != "v" || !ok {
		t.Errorf("GET = %q, %v; want \"v\", true", got, ok)
	}
}

func testSeveral(t *testing.T, conn *rdb.Conn, prefix string) {
	var sets, gets []*rdb.Cmd
	for i := range 20 { // on a cluster these are in many slots and on all masters
		key := rdb.Key(prefix, "k", fmt.Sprint("many", i))
		sets = append(sets, rdb.NewCmd(key, "set", key, i, "px", 60_000))
		gets = append(gets, rdb.NewCmd(key, "get", key))
	}
	if err := conn.Exec(t.Context(), sets...); err != nil {
		t.Fatal(err)
	}
	if err := conn.Exec(t.Context(), gets...); err != nil {
		t.Fatal(err)
	}
	for i, get := range gets {
		if got, _ := get.Text(); got != fmt.Sprint(i) {
			t.Errorf("GET %d = %q", i, got)
		}
	}
}

func testScript(t *testing.T, conn *rdb.Conn, prefix string) {
	// The comment makes it a script that no server has seen.
	script := rdb.NewScript("-- " + prefix + "\nreturn {KEYS[1], ARGV[1], redis.call('INCR', KEYS[1])}")
	key := rdb.Key(prefix, "k", "script")
	for want := int64(1); want <= 2; want++ { // the first is NOSCRIPT, then EVAL
		cmd := script.Cmd(key, "arg")
		if err := conn.Exec(t.Context(), cmd); err != nil {
			t.Fatal(err)
		}
		reply := cmd.Slice()
		if len(reply) != 3 || reply[0] != key || reply[1] != "arg" || reply[2] != want {
			t.Errorf("run %d = %v; want [%s arg %d]", want, reply, key, want)
		}
	}
	expire := rdb.NewCmd(key, "pexpire", key, 60_000)
	if err := conn.Exec(t.Context(), expire); err != nil || expire.Int() != 1 {
		t.Errorf("PEXPIRE = %v, %v", expire.Int(), err)
	}
	// NOSCRIPT in the middle of a pipeline costs that command a second trip only.
	fresh := rdb.NewScript("-- again " + prefix + "\nreturn redis.call('INCR', KEYS[1])")
	known, unknown := script.Cmd(key, "arg"), fresh.Cmd(key)
	if err := conn.Exec(t.Context(), known, unknown); err != nil {
		t.Fatal(err)
	}
	if known.Slice()[2] != int64(3) || unknown.Int() != 4 {
		t.Errorf("pipeline = %v, %v; want 3, 4: each counted once", known.Slice()[2], unknown.Int())
	}
}

func testKinds(t *testing.T, conn *rdb.Conn, prefix string) {
	key := rdb.Key(prefix, "k", "kinds")
	list := rdb.NewCmd(key, "rpush", key, "x")
	expire := rdb.NewCmd(key, "pexpire", key, 60_000)
	if err := conn.Exec(t.Context(), list, expire); err != nil {
		t.Fatal(err)
	}
	wrong, right := rdb.NewCmd(key, "get", key), rdb.NewCmd(key, "llen", key)
	if err := conn.Exec(t.Context(), wrong, right); !errors.Is(err, rdb.ErrCorrupt) {
		t.Errorf("GET of a list: %v; want ErrCorrupt", err)
	}
	if right.Err() != nil || right.Int() != 1 {
		t.Errorf("the command beside it: %v, %v; want 1, nil", right.Int(), right.Err())
	}
	err := conn.Exec(t.Context(), rdb.NewCmd(key, "get", key, "too", "many"))
	if err == nil || errors.Is(err, rdb.ErrUnavailable) || errors.Is(err, rdb.ErrCorrupt) {
		t.Errorf("a command the server refuses: %v; want an error of no kind", err)
	}
	if err := conn.Exec(t.Context(), rdb.NewCmd(key, "nosuchcommand", key, "NOSCRIPT")); err == nil || errors.Is(err, rdb.ErrUnavailable) {
		t.Errorf("an unknown command about NOSCRIPT: %v; want an error of no kind", err)
	}
	if err := conn.Exec(t.Context()); err != nil {
		t.Errorf("no commands: %v; want nil", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cmd := rdb.NewCmd(key, "del", key)
	if err := conn.Exec(ctx, cmd); err != context.Canceled {
		t.Errorf("cancelled: %v; want context.Canceled untouched", err)
	}
	if err := conn.Exec(t.Context(), right); err != nil || right.Int() != 1 {
		t.Errorf("a cancelled DEL was carried out: LLEN = %v, %v", right.Int(), err)
	}
}

func TestOpen_leavesTheClientAlone(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	client := b.Client(t).(*redis.Client)
	before := *client.Options()
	conn := open(t, client, 20*time.Millisecond)
	if err := conn.Exec(t.Context(), rdb.NewCmd("k", "get", "k")); err != nil {
		t.Fatal(err)
	}
	after := *client.Options()
	if before.ContextTimeoutEnabled != after.ContextTimeoutEnabled || before.ReadTimeout != after.ReadTimeout ||
		before.WriteTimeout != after.WriteTimeout || before.MaxRetries != after.MaxRetries {
		t.Errorf("the client's options changed: %+v; want %+v", after, before)
	}
	// Hooks of the user's see the calls, also those added after Open.
	counting := &hook{}
	other := b.Client(t)
	conn = open(t, other, relaxed)
	other.AddHook(counting)
	if err := conn.Exec(t.Context(), rdb.NewCmd("k", "get", "k")); err != nil {
		t.Fatal(err)
	}
	if counting.n != 1 {
		t.Errorf("the hook saw %d commands; want 1", counting.n)
	}
}

type hook struct {
	n     int
	panic bool
}

func (h *hook) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h *hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "get" { // not the handshake
			if h.n++; h.panic {
				panic("hook")
			}
		}
		return next(ctx, cmd)
	}
}
func (h *hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A panic in a hook of the user's reaches the caller, who can recover it, and
// does not end the process from a goroutine.
func TestExec_panicReachesTheCaller(t *testing.T) {
	client := testkit.Shared(t, "cluster").Client(t)
	client.AddHook(&hook{panic: true})
	conn := open(t, client, relaxed)
	defer func() {
		if got := recover(); got != "hook" {
			t.Errorf("recovered %v; want the hook's panic", got)
		}
	}()
	_ = conn.Exec(t.Context(), rdb.NewCmd("k", "get", "k"))
	t.Error("no panic")
}

func TestOpen_mistakes(t *testing.T) {
	t.Parallel()
	var unset *redis.Client
	for name, client := range map[string]redis.UniversalClient{"nil": nil, "nil pointer": unset} {
		_, err := rdb.Open(client, 0)
		err = rdb.Misconfigured("x.New", err)
		if !errors.Is(err, rdb.ErrConfig) {
			t.Errorf("%s: %v; want ErrConfig", name, err)
		}
		for _, want := range []string{"client is nil", "WithTimeout(0s)"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want it to say %q", name, err, want)
			}
		}
	}
	if err := rdb.Misconfigured("x.New", nil, nil); err != nil {
		t.Errorf("no mistakes: %v; want nil", err)
	}
}

// Engines on one client share its breakers, and the table of clients lets go of
// clients nobody uses any more.
func TestOpen_sharesByClient(t *testing.T) {
	b := testkit.Mini(t)
	one, two := b.Client(t), b.Client(t)
	a1, a2, other := open(t, one, time.Second), open(t, one, time.Minute/2), open(t, two, time.Second)
	if !rdb.SharesCore(a1, a2) || rdb.SharesCore(a1, other) {
		t.Error("want Conns to share a core if and only if they share a client")
	}
	runtime.KeepAlive(a1)
	before := rdb.Cores()
	for range 100 {
		client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
		open(t, client, time.Second)
		_ = client.Close()
	}
	testkit.Eventually(t, "the table to shrink", func() bool { runtime.GC(); return rdb.Cores() <= before })
}
