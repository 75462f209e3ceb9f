package middleware

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-weir/weir/internal/rfc9111"
)

// These bound a searches to a few MiB.
const (
	maxSearches    = 1 << 14
	maxSearchField = 256 // bytes
)

// searches remembers what responses said in No-Vary-Search, for each path: by which
// differences between queries they are not told apart. It is only a guess that finds
// more: a response is kept under a key that has its own field in it, so that none
// is found by the rule of another. The zero value is ready.
type searches struct {
	some atomic.Bool // that is all that most caches ever read
	mu   sync.RWMutex
	m    map[string]string
}

func (s *searches) get(path string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m[path]
}

func (s *searches) put(path, field string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if field == "" {
		delete(s.m, path)
		return
	}
	if s.m == nil {
		s.m = make(map[string]string)
	}
	if _, known := s.m[path]; !known && len(s.m) >= maxSearches {
		for other := range s.m { // an arbitrary one
			delete(s.m, other)
			break
		}
	}
	s.m[path] = field
	s.some.Store(true)
}

// resource is what names the resource of a request, as it came: handlers rewrite
// URLs.
type resource struct {
	scheme, host, path, query string
	target                    string // what was asked for, where path and query are not
}

func resourceOf(r *http.Request) resource {
	u := resource{scheme: schemeOf(r), host: strings.ToLower(r.Host), path: r.URL.EscapedPath(), query: r.URL.RawQuery}
	// Of two handlers behind different prefixes that http.StripPrefix took off,
	// each has its own resources.
	if target := originForm(r.RequestURI); target != "" && !isTarget(target, u.path, u.query) {
		u.target = target
	}
	return u
}

// keyOf is the key of a resource by the field that was last seen for its path, and
// that field; without one, its plain key. What was rewritten on its way here is told
// apart by all of what was asked for.
func (s *searches) keyOf(u resource) (key, field string) {
	if s.some.Load() && u.target == "" {
		if field = s.get(u.allQueries()); field != "" {
			return u.keyUnder(field), field
		}
	}
	return u.key(), ""
}

// allQueries stands for a path with whatever query. No target begins with a question
// mark, so that it, and keyUnder, is no resource's plain key.
func (u resource) allQueries() string {
	u.query, u.target = "", "?"
	return u.key()
}

// keyUnder is the key under a No-Vary-Search field.
func (u resource) keyUnder(field string) string {
	n := rfc9111.ParseNoVarySearch(http.Header{"No-Vary-Search": {field}})
	u.query, u.target = n.Query(u.query), "?"+field
	return u.key()
}

// learn has the answer kept under the key that its own No-Vary-Search asks for.
func (f *forwarded) learn(h http.Header) {
	lines := h["No-Vary-Search"]
	if len(lines) == 0 && f.search == "" || f.resource.target != "" {
		return
	}
	field := strings.Join(lines, ", ")
	if len(field) > maxSearchField || rfc9111.ParseNoVarySearch(h).None() {
		field = ""
	}
	if field == f.search {
		return
	}
	f.cache.searches.put(f.resource.allQueries(), field)
	f.search = field
	if f.key = f.resource.key(); field != "" {
		f.key = f.resource.keyUnder(field)
	}
}
