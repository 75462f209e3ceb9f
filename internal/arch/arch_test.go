package arch_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/go-weir/weir/"

// rooms says which rooms a room may import, besides itself; every import points
// down this list. A room is a folder and all below it.
var rooms = []struct {
	name string
	uses []string
}{
	{"internal/arch", nil},
	{"internal/respw", nil},
	{"internal/rfc9111", nil},
	{"internal/codec", nil},
	{"internal/rdb", nil},
	{"ratelimit", []string{"internal/rdb"}},
	{"session", []string{"internal/rdb"}},
	{"cache/event", []string{"internal/codec", "internal/rdb"}},
	{"cache/lock", []string{"internal/rdb"}},
	{"cache/idempotency", []string{"internal/rdb"}},
	{"cache", []string{"cache/event", "internal/codec", "internal/rdb"}},
	{"middleware", []string{"ratelimit", "session", "cache/event", "cache/lock", "cache/idempotency", "cache", "internal/rdb", "internal/respw", "internal/rfc9111"}},
	{"internal/testkit", nil},
	{"examples", []string{"ratelimit", "session", "cache/event", "cache/lock", "cache/idempotency", "cache", "middleware"}},
}

// outside says which rooms' code may import a module. What is not listed may be
// imported nowhere. Tests are free.
var outside = map[string][]string{
	"github.com/redis/go-redis/v9":     {"internal/rdb", "internal/testkit", "ratelimit", "session", "cache/event", "cache/lock", "cache/idempotency", "cache", "examples"},
	"github.com/alexedwards/scs/v2":    {"session"},
	"github.com/gomodule/redigo":       {"session"},
	"github.com/go-chi/chi/v5":         {"middleware", "examples"},
	"github.com/dunglas/httpsfv":       {"internal/rfc9111"},
	"github.com/alicebob/miniredis/v2": {"internal/testkit", "examples"},
	"github.com/klauspost/compress":    {"cache"},
	"github.com/maypok86/otter/v2":     {"cache"},
	"github.com/vmihailenco/msgpack":   {"internal/codec"},
}

// experimental are go-redis's symbols that may change in a minor release. They
// stay in one room, so that such a change is one room's work.
var experimental = []string{"AutoPipeline", "ClientSideCache", "CSCStats"}

type file struct {
	path    string // from the module's root, with slashes
	imports []string
	text    string
}

func TestImports_pointDown(t *testing.T) {
	t.Parallel()
	for _, f := range sources(t) {
		room, uses := roomOf(f.path)
		if room == "" {
			t.Errorf("%s is in no room: add it to the list, at its height", f.path)
			continue
		}
		for _, imported := range f.imports {
			inner, inside := strings.CutPrefix(imported, module)
			switch {
			case inside:
				target, _ := roomOf(inner + "/x.go")
				if target != room && !slices.Contains(uses, target) {
					t.Errorf("%s imports %s: %s may use only %v", f.path, imported, room, uses)
				}
			case strings.Contains(strings.Split(imported, "/")[0], "."):
				if !slices.ContainsFunc(allowed(imported), func(r string) bool { return r == room }) {
					t.Errorf("%s imports %s, which %s may not", f.path, imported, room)
				}
			}
		}
	}
}

func TestExperimentalSymbols_onlyInRdb(t *testing.T) {
	t.Parallel()
	for _, f := range sources(t) {
		if room, _ := roomOf(f.path); room == "internal/rdb" || room == "internal/arch" {
			continue
		}
		for _, symbol := range experimental {
			if strings.Contains(f.text, "redis."+symbol) || strings.Contains(f.text, "."+symbol+"(") {
				t.Errorf("%s uses go-redis's experimental %s: only internal/rdb may", f.path, symbol)
			}
		}
	}
}

func allowed(imported string) []string {
	for prefix, rooms := range outside {
		if imported == prefix || strings.HasPrefix(imported, prefix+"/") {
			return rooms
		}
	}
	return nil
}

func roomOf(file string) (name string, uses []string) {
	for _, r := range rooms {
		if strings.HasPrefix(file, r.name+"/") {
			return r.name, r.uses
		}
	}
	return "", nil
}

// sources returns the module's Go files, without tests.
func sources(t *testing.T) []file {
	t.Helper()
	root := filepath.Join("..", "..")
	var files []file
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if base := path.Base(rel); rel != "." && (strings.HasPrefix(base, ".") || base == "testdata") {
				return filepath.SkipDir
			}
			// A module of its own has its own rules: internal/bench.
			if _, err := os.Stat(filepath.Join(p, "go.mod")); rel != "." && err == nil {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), p, text, parser.ImportsOnly)
		if err != nil {
			return err
		}
		f := file{path: rel, text: string(text)}
		for _, i := range parsed.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, imported)
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("found %d Go files; the walk must have missed the module", len(files))
	}
	return files
}
