package session_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	_ "github.com/alexedwards/scs/goredisstore" // its tests are run below

	"github.com/go-weir/weir/internal/testkit"
)

// upstream is a test suite of scs's, run in its own words against Weir: its test
// files byte for byte from the module cache, in a module made for the purpose. Weir's
// part is put in from outside, by an external test package with an init function: what
// is tested imports nothing of Weir's, which imports it.
type upstream struct {
	module string // whose suite it is
	tests  int    // how many tests it has at least
	keep   bool   // the module's own code stays, not only its tests
	dsn    string // how the suite wants the address of its server
	files  map[string]string
	// copies are further modules that the suite gets with one text replaced by
	// another in a file, and files put beside it.
	copies map[string]alteration
}

type alteration struct {
	file, from, to string
	files          map[string]string
}

// scsMemstore takes the place of the store that scs.New gives a manager.
const scsMemstore = `package memstore

import ("context"; "time")

// Store is what scs may ask of a store.
type Store interface {
	Find(token string) ([]byte, bool, error)
	FindCtx(ctx context.Context, token string) ([]byte, bool, error)
	Commit(token string, b []byte, expiry time.Time) error
	CommitCtx(ctx context.Context, token string, b []byte, expiry time.Time) error
	Delete(token string) error
	DeleteCtx(ctx context.Context, token string) error
	All() (map[string][]byte, error)
	AllCtx(ctx context.Context) (map[string][]byte, error)
}

type MemStore struct{ Store }

// Make makes the store of a manager; set from outside.
var Make func() Store

func New() *MemStore { return &MemStore{Make()} }
`

// scsWeir gives each manager a prefix of its own, as each had a memory of its own.
const scsWeir = `package scs_test

import (
	"crypto/rand"
	"os"
	"time"

	"github.com/alexedwards/scs/v2/memstore"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/session"
)

func init() {
	client := redis.NewClient(&redis.Options{Addr: os.Getenv("SCS_REDIS_TEST_DSN")})
	memstore.Make = func() memstore.Store {
		store, err := session.NewStore(client, session.WithPrefix("scs:" + rand.Text()), session.WithTimeout(10*time.Second))
		if err != nil {
			panic(err)
		}
		return store
	}
}
`

// goredisstoreWeir is a store with the name and the field that the tests use.
const goredisstoreWeir = `package goredisstore

import (
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/session"
)

type RedisStore struct {
	*session.Store
	prefix string
}

func New(client *redis.Client) *RedisStore {
	store, err := session.NewStore(client, session.WithTimeout(10*time.Second))
	if err != nil {
		panic(err)
	}
	return &RedisStore{store, "scs:session:"}
}
`

// redigoHook is redigo without sockets of its own.
const redigoHook = `package redis

// Dialer is what Dial does; set from outside.
var Dialer func(address string) (Conn, error)

func Dial(_, address string, _ ...DialOption) (Conn, error) { return Dialer(address) }
`

// redisstoreWeir has redigo.Dial return the adapter's Conns.
const redisstoreWeir = `package redisstore_test

import (
	"sync"
	"time"

	redigo "github.com/gomodule/redigo/redis"
	"github.com/redis/go-redis/v9"

	weir "github.com/go-weir/weir/session/redigo"
)

func init() {
	pools := make(map[string]*redigo.Pool)
	var mu sync.Mutex
	redigo.Dialer = func(address string) (redigo.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		pool := pools[address]
		if pool == nil {
			client := redis.NewClient(&redis.Options{Addr: address})
			pool = weir.Pool(client, weir.WithTimeout(10*time.Second))
			pools[address] = pool
		}
		return pool.Dial()
	}
}
`

var upstreams = map[string]upstream{
	// All of scs, on a store that is Weir's where it was memory.
	"scs": {
		module: "github.com/alexedwards/scs/v2",
		tests:  32,
		keep:   true,
		dsn:    "%s",
		files:  map[string]string{"memstore/memstore.go": scsMemstore, "weir_test.go": scsWeir},
	},
	// The tests of the store for go-redis, on Weir's.
	"goredisstore": {
		module: "github.com/alexedwards/scs/goredisstore",
		tests:  7,
		dsn:    "redis://%s",
		files:  map[string]string{"weir.go": goredisstoreWeir},
	},
	// The store for redigo with its tests, both as they are, on redigo without
	// sockets.
	"redisstore": {
		module: "github.com/alexedwards/scs/redisstore",
		tests:  6,
		keep:   true,
		dsn:    "%s",
		files:  map[string]string{"weir_test.go": redisstoreWeir},
		copies: map[string]alteration{"github.com/gomodule/redigo": {
			file: "redis/conn.go", from: "\nfunc Dial(", to: "\nfunc dialSocket(",
			files: map[string]string{"redis/weir.go": redigoHook},
		}},
	},
}

// The suites that scs tests its own stores with pass on Weir's, and on the adapter.
// A suite that ran fewer tests than it has is a failure.
func TestUpstream(t *testing.T) {
	if testing.Short() && os.Getenv("WEIR_REQUIRE_REDIS") == "" {
		t.Skip("SKIPPED with -short: compiles and runs the suites of scs in processes of their own")
	}
	t.Parallel()
	for name, suite := range upstreams {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testkit.Server(t) // of its own, as the suites flush
			passed := suite.run(t, fmt.Sprintf(suite.dsn, server.Addrs()[0]))
			want := testsIn(t, moduleDir(t, suite.module))
			if len(want) < suite.tests {
				t.Errorf("%s has %d tests; want the %d it had", suite.module, len(want), suite.tests)
			}
			for _, test := range want {
				if !slices.Contains(passed, test) {
					t.Errorf("%s did not run, or did not pass", test)
				}
			}
			// That all of it went to the server, and not to a memory left in its place.
			if stats := server.Client(t).Info(t.Context(), "commandstats").Val(); !strings.Contains(stats, "cmdstat_set:") || !strings.Contains(stats, "cmdstat_get:") {
				t.Errorf("the server saw no SET or no GET: %s", stats)
			}
			t.Logf("%s: %d of %d tests passed, race %v: %s", suite.module, len(passed), len(want), underRace(), strings.Join(passed, " "))
		})
	}
}

// run makes the module, runs its tests and returns those that passed, without
// subtests.
func (u upstream) run(t *testing.T, dsn string) (passed []string) {
	dir := t.TempDir()
	from := moduleDir(t, u.module)
	for _, file := range goFiles(t, from) {
		_, replaced := u.files[file]
		isTest := strings.HasSuffix(file, "_test.go")
		switch {
		case replaced, isTest && filepath.Dir(file) != ".": // memstore's own look into it
		case isTest || u.keep:
			copyFile(t, filepath.Join(from, file), filepath.Join(dir, file))
		}
	}
	writeFiles(t, dir, u.files)
	replaces := ""
	for module, a := range u.copies {
		to := t.TempDir()
		a.copy(t, moduleDir(t, module), to)
		replaces += fmt.Sprintf("replace %s => %s\n", module, to)
	}
	writeModule(t, dir, u.module, replaces)

	args := []string{"test", "-json", "-count=1", "-vet=off"} // how scs is vetted is not ours to say
	if underRace() {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, ".")...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "SCS_REDIS_TEST_DSN="+dsn, "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off", "GOTOOLCHAIN=local")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("go test: %v", err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var event struct{ Action, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &event) != nil {
			t.Log(lines.Text()) // the go command's own words
			continue
		}
		if event.Action == "pass" && event.Test != "" && !strings.Contains(event.Test, "/") {
			passed = append(passed, event.Test)
		}
		if err != nil && event.Output != "" {
			t.Log(strings.TrimSuffix(event.Output, "\n"))
		}
	}
	slices.Sort(passed)
	return passed
}

// copy copies a module with its alteration, without its tests.
func (a alteration) copy(t *testing.T, from, to string) {
	for _, file := range append(goFiles(t, from), "go.mod") {
		if !strings.HasSuffix(file, "_test.go") {
			copyFile(t, filepath.Join(from, file), filepath.Join(to, file))
		}
	}
	file := filepath.Join(to, a.file)
	text := readFile(t, file)
	if strings.Count(text, a.from) != 1 {
		t.Fatalf("%s has %q not once", a.file, a.from)
	}
	writeFiles(t, to, map[string]string{a.file: strings.Replace(text, a.from, a.to, 1)})
	writeFiles(t, to, a.files)
}

// writeModule makes dir the module, with Weir's requirements and Weir as it is here.
func writeModule(t *testing.T, dir, module, replaces string) {
	root := filepath.Dir(strings.TrimSpace(goCommand(t, "env", "GOMOD")))
	mod := readFile(t, filepath.Join(root, "go.mod"))
	mod = strings.Replace(mod, "module github.com/go-weir/weir\n", "module "+module+"\n", 1)
	mod += "\nrequire github.com/go-weir/weir v0.0.0\nreplace github.com/go-weir/weir => " + root + "\n" + replaces
	writeFiles(t, dir, map[string]string{"go.mod": mod, "go.sum": readFile(t, filepath.Join(root, "go.sum"))})
}

// testsIn names the tests of a package.
func testsIn(t *testing.T, dir string) (names []string) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") && len(f.Type.Params.List) == 1 {
				names = append(names, f.Name.Name)
			}
		}
	}
	return names
}

// underRace reports whether this test was built with -race.
func underRace() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

func moduleDir(t *testing.T, module string) string {
	t.Helper()
	dir := strings.TrimSpace(goCommand(t, "list", "-m", "-f", "{{.Dir}}", module))
	if dir == "" {
		t.Fatalf("%s is not in the module cache: go mod download", module)
	}
	return dir
}

func goCommand(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if err != nil {
		t.Fatalf("go %v: %v", args, err)
	}
	return string(out)
}

// goFiles lists the Go files of a module, relative to it.
func goFiles(t *testing.T, dir string) (files []string) {
	t.Helper()
	for _, pattern := range []string{"*.go", "*/*.go"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			files = append(files, strings.TrimPrefix(f, dir+string(filepath.Separator)))
		}
	}
	return files
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	writeFiles(t, filepath.Dir(to), map[string]string{filepath.Base(to): readFile(t, from)})
}

// writeFiles writes files below dir.
func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
