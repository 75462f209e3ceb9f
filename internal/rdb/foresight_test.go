package rdb_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/internal/testkit"
)

func get(key string) *rdb.Cmd { return rdb.NewCmd(key, "get", key).Replayable() }

func set(key, value string) *rdb.Cmd { return rdb.NewCmd(key, "set", key, value, "px", 60000) }

// exec runs a command of a test's, which must have its reply.
func exec(t testing.TB, ctx context.Context, conn *rdb.Conn, cmds ...*rdb.Cmd) {
	t.Helper()
	if err := conn.Exec(ctx, cmds...); err != nil {
		t.Fatal(err)
	}
}

// What one engine has foreseen goes along with another's call, wherever its keys
// are, and each has its own reply.
func TestForesight_replies(t *testing.T) {
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		client := b.Client(t)
		first, second := open(t, client, relaxed), open(t, client, relaxed)
		keys := make([]string, 8)
		ctx := rdb.WithForesight(t.Context())
		for i := range keys {
			keys[i] = rdb.Key(b.Prefix(t), "f", string(rune('a'+i)))
			exec(t, t.Context(), second, set(keys[i], keys[i]))
			second.Foresee(ctx, get(keys[i]), rdb.NewCmd(keys[i], "strlen", keys[i]))
		}
		counter := rdb.Key(b.Prefix(t), "f", "counter")
		incr := rdb.NewCmd(counter, "incr", counter)
		exec(t, ctx, first, incr)
		if incr.Int() != 1 {
			t.Errorf("the call that took reads along: got %d; want 1", incr.Int())
		}
		// A key that nobody foresaw is asked for; so is one foreseen, the second time.
		value, length := get(keys[3]), rdb.NewCmd(keys[3], "strlen", keys[3])
		exec(t, ctx, second, value, length)
		if text, _ := value.Text(); text != keys[3] || length.Int() != int64(len(keys[3])) || value.Ago() == 0 {
			t.Errorf("foreseen: got %q, %d, asked %v ago; want %q, %d, more than 0", text, length.Int(), value.Ago(), keys[3], len(keys[3]))
		}
		again := get(keys[3])
		exec(t, ctx, second, again)
		if again.Ago() != 0 {
			t.Errorf("asked a second time: the reply is %v old; want one of its own", again.Ago())
		}
	})
}

// Nothing but the very call that was foreseen has its reply, and one that may have
// changed what was read makes it void. Red without the line that drops what is of the
// same Conn, and without the comparison of commands.
func TestForesight_onlyTheSame(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, testkit.Mini(t).Addrs()[0])
	client := p.Client(t)
	carrier, reader := open(t, client, relaxed), open(t, client, relaxed)
	other := open(t, p.Client(t), relaxed)
	exec(t, t.Context(), reader, set("k", "old"))
	exec(t, t.Context(), reader, set("l", "else"))
	carry := func(ctx context.Context) { exec(t, ctx, carrier, get("unrelated")) }
	tests := []struct {
		name    string
		between func(ctx context.Context)
		ask     string
		want    string
		trips   int
		sent    int // commands
	}{
		{"at once", func(context.Context) {}, "k", "old", 1, 2},
		{"after a call by another", carry, "k", "old", 2, 3},
		{"of another key", func(context.Context) {}, "l", "else", 2, 3},
		{"after a write by the same", func(ctx context.Context) { exec(t, ctx, reader, set("k", "new")) }, "k", "new", 3, 4},
		{"after that", func(context.Context) {}, "k", "new", 1, 2},
	}
	for _, test := range tests {
		p.Reset()
		ctx := rdb.WithForesight(t.Context())
		reader.Foresee(ctx, get("k"))
		carry(ctx)
		test.between(ctx)
		cmd := get(test.ask)
		exec(t, ctx, reader, cmd)
		if text, _ := cmd.Text(); text != test.want || p.RoundTrips() != test.trips || p.Commands() != test.sent {
			t.Errorf("%s: got %q by %d commands in %d round trips; want %q, %d in %d", test.name, text, p.Commands(), p.RoundTrips(), test.want, test.sent, test.trips)
		}
	}

	p.Reset()
	ctx := rdb.WithForesight(t.Context())
	reader.Foresee(ctx, get("k"))
	exec(t, ctx, other, get("unrelated"))
	if p.Commands() != 1 {
		t.Errorf("a call on another client took %d commands along; want none", p.Commands()-1)
	}
	reader.Foresee(t.Context(), get("k")) // nobody listens
	exec(t, t.Context(), carrier, get("unrelated"))
	if p.Commands() != 2 {
		t.Errorf("without a foresight %d commands went along; want none", p.Commands()-2)
	}
}

// A foreseen command that failed is made again, by whoever wants it: it alone has its
// error.
func TestForesight_failure(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	client := b.Client(t)
	carrier, reader := open(t, client, relaxed), open(t, client, relaxed)
	exec(t, t.Context(), reader, rdb.NewCmd("list", "rpush", "list", "x"))
	ctx := rdb.WithForesight(t.Context())
	reader.Foresee(ctx, get("list"))
	exec(t, ctx, carrier, get("unrelated"))
	if err := reader.Exec(ctx, get("list")); !errors.Is(err, rdb.ErrCorrupt) {
		t.Errorf("got %v; want ErrCorrupt", err)
	}
}

// Red without the line that looks at a reply's age.
func TestForesight_late(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := testkit.Memory(t)
		client := b.Client(t)
		carrier, reader := open(t, client, relaxed), open(t, client, relaxed)
		exec(t, t.Context(), reader, set("k", "old"))
		for _, test := range []struct {
			after time.Duration
			want  string
		}{{50 * time.Millisecond, "old"}, {51 * time.Millisecond, "new"}} {
			exec(t, t.Context(), carrier, set("k", "old"))
			ctx := rdb.WithForesight(t.Context())
			reader.Foresee(ctx, get("k"))
			exec(t, ctx, carrier, get("unrelated"))
			exec(t, t.Context(), carrier, set("k", "new"))
			time.Sleep(test.after)
			cmd := get("k")
			exec(t, ctx, reader, cmd)
			if text, _ := cmd.Text(); text != test.want {
				t.Errorf("%v later: got %q; want %q", test.after, text, test.want)
			}
		}
	})
}

// pauseOne pauses one of a cluster's masters until the test ends. It returns a key of
// another one, and a key of its own.
func pauseOne(t *testing.T, b *testkit.Backend, client redis.UniversalClient, conn *rdb.Conn) (here, there string) {
	t.Helper()
	for i := range 64 {
		key := rdb.Key("f", "f", string(rune('A'+i)))
		exec(t, t.Context(), conn, get(key)) // the topology is known then
		switch {
		case here == "":
			here = key
		case conn.Server(t.Context(), key) != conn.Server(t.Context(), here):
			there = key
		}
	}
	master, err := client.(*redis.ClusterClient).MasterForKey(t.Context(), there)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range b.Nodes() {
		if n.Addr() == master.Options().Addr {
			n.Pause()
			t.Cleanup(n.Resume)
		}
	}
	return here, there
}

// Nobody waits for a master that the call itself does not ask.
func TestForesight_silentMaster(t *testing.T) {
	t.Parallel()
	b := testkit.Cluster3(t)
	client := b.Client(t)
	carrier, reader := open(t, client, relaxed), open(t, client, relaxed)
	here, there := pauseOne(t, b, client, carrier)
	ctx := rdb.WithForesight(t.Context())
	reader.Foresee(ctx, get(there))
	done := make(chan error, 1)
	go func() { done <- carrier.Exec(ctx, get(here)) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(relaxed / 2):
		t.Error("the call waits for a master that it does not ask")
	}
}

// What a read that went beside has waited for in vain is not waited for again: the request
// waits for one budget in all. Red without Remember in recall.
func TestForesight_oneBudget(t *testing.T) {
	t.Parallel()
	b := testkit.Cluster3(t)
	client := b.Client(t)
	carrier, reader := open(t, client, relaxed), open(t, client, rdb.DefaultBudget)
	here, there := pauseOne(t, b, client, carrier)
	ctx := rdb.WithForesight(t.Context())
	reader.Foresee(ctx, get(there))
	exec(t, ctx, carrier, get(here))
	err := reader.Exec(ctx, get(there))
	if !errors.Is(err, rdb.ErrUnavailable) || !strings.Contains(err.Error(), "already silent for this request") {
		t.Errorf("got %v; want the silence that is known already", err)
	}
}

// A read that may take longer than the call that would take it along goes beside: the
// call has its own budget. Red without the comparison of budgets.
func TestForesight_shorterBudget(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, testkit.Mini(t).Addrs()[0])
	client := p.Client(t)
	carrier, reader := open(t, client, relaxed/2), open(t, client, relaxed)
	ctx := rdb.WithForesight(t.Context())
	reader.Foresee(ctx, get("k"))
	exec(t, ctx, carrier, get("unrelated"))
	exec(t, ctx, reader, get("k"))
	if p.RoundTrips() != 2 || p.Commands() != 2 {
		t.Errorf("got %d commands in %d round trips; want 2 in 2", p.Commands(), p.RoundTrips())
	}
}

// Of a hook that panics the caller of the command hears, not the process.
func TestForesight_hookPanics(t *testing.T) {
	t.Parallel()
	b := testkit.Cluster3(t)
	client := b.Client(t).(*redis.ClusterClient)
	carrier, reader := open(t, client, relaxed), open(t, client, relaxed)
	exec(t, t.Context(), carrier, get("a"))
	client.AddHook(panicking("b"))
	ctx := rdb.WithForesight(t.Context())
	for _, key := range []string{"b", "c", "d", "e"} {
		reader.Foresee(ctx, get(key), get("b"))
	}
	exec(t, ctx, carrier, get("a"))
	defer func() {
		if recover() == nil {
			t.Error("the command's own call did not panic")
		}
	}()
	_ = reader.Exec(ctx, get("b"))
}

// panicking is a hook that cannot bear one key.
type panicking string

func (panicking) DialHook(next redis.DialHook) redis.DialHook { return next }

func (p panicking) bear(cmd redis.Cmder) {
	if args := cmd.Args(); len(args) > 1 && args[1] == string(p) {
		panic(p)
	}
}

func (p panicking) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		p.bear(cmd)
		return next(ctx, cmd)
	}
}

func (p panicking) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			p.bear(cmd)
		}
		return next(ctx, cmds)
	}
}
