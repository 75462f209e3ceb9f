package cache_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
)

// mutant is a fault put into a script of lua/. A hook of the test's client sends the
// faulty text in the place of the true one.
type mutant struct {
	file, is, becomes string
}

func (m mutant) hook(t *testing.T) redis.Hook {
	t.Helper()
	h := mutation{scripts: make(map[string]string)}
	files, err := os.ReadDir("lua")
	if err != nil {
		t.Fatal(err)
	}
	shared := read(t, "data.lua")
	for _, f := range files {
		text := shared + read(t, f.Name())
		switch f.Name() {
		case "ask.lua":
			text = read(t, "fresh.lua") + text
		case "find.lua", "keep.lua", "hold.lua":
			text = shared + read(t, "body.lua") + read(t, f.Name())
		}
		faulty := strings.Replace(text, m.is, m.becomes, 1)
		if f.Name() != m.file && m.file != "data.lua" {
			continue
		}
		if faulty == text {
			t.Fatalf("%s has no %q", m.file, m.is)
		}
		sum := sha1.Sum([]byte(text))
		h.scripts[hex.EncodeToString(sum[:])] = faulty
	}
	return h
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile("lua/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// mutation replaces scripts on their way to Redis.
type mutation struct{ scripts map[string]string } // by SHA-1

func (m mutation) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (m mutation) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		m.replace(cmd)
		return next(ctx, cmd)
	}
}

func (m mutation) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			m.replace(cmd)
		}
		return next(ctx, cmds)
	}
}

func (m mutation) replace(cmd redis.Cmder) {
	args := cmd.Args()
	if len(args) < 2 || args[0] != "evalsha" {
		return
	}
	if text, known := m.scripts[args[1].(string)]; known {
		args[0], args[1] = "eval", text
	}
}

// The campaign of interleavings finds each of these faults. What takes the death of a
// process to show has tests of its own.
func TestInterleavings_findMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes long")
	}
	t.Parallel()
	for name, m := range map[string]mutant{
		"fill compares no lease":               {"fill.lua", "if not l or l.token ~= ARGV[2] then return { 0 } end", "if not l then l = { born = 1e15, epoch = (look() or {}).e } end"},
		"fill compares no born":                {"fill.lua", "not covered(s, name, l.epoch, l.born, nil, ARGV[7])", "true"},
		"a deletion leaves the load its lease": {"drop.lua", "spoil(KEYS[2], ARGV[1])", ""},
		"a deletion leaves the entry":          {"drop.lua", "redis.call('UNLINK', KEYS[1])", ""},
		"tags are not looked at":               {"data.lua", "if last and last > born or put and (not since or since > put) then return true end", ""},
		"a tag keeps its old number":           {"untag.lua", "stale = s.n else last = s.n end", "stale = s.n end"},
		"the floor is not looked at":           {"data.lua", "or born < s.f or", "or"},
		"prefixes are not looked at":           {"data.lua", "if born < k.n and", "if false and"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, "server")
			h := m.hook(t)
			clients := make([]redis.UniversalClient, 3)
			for i := range clients {
				clients[i] = b.Client(t)
				clients[i].AddHook(h)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for range 20 {
				c := newCampaign(t, b.Prefix(t), clients, 4000)
				c.run(ctx, seed(t))
				if len(c.faults()) > 0 {
					return
				}
			}
			t.Error("the campaign found nothing")
		})
	}
}
