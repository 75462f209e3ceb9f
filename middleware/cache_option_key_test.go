package middleware_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// tracking and order of parameters do not matter.
var shopRules = []middleware.QueryRule{middleware.IgnoreParams("utm_*", "gclid", "fbclid"), middleware.SortParams}

func TestQueryRules(t *testing.T) {
	t.Parallel()
	ignore := middleware.IgnoreParams("utm_*", "gclid", "ref[]")
	for _, test := range []struct {
		rule        middleware.QueryRule
		query, want string
	}{
		{ignore, "", ""},
		{ignore, "a=1", "a=1"},
		{ignore, "utm_source=x", ""},
		{ignore, "a=1&utm_source=x&b=2&gclid=3&gclid", "a=1&b=2"},
		{ignore, "a=%41&&b&utm_=1&c=", "a=%41&&b&c="},
		{ignore, "utm=1&gclid2=1&xutm_a=1&UTM_a=1&Gclid=1", "utm=1&gclid2=1&xutm_a=1&UTM_a=1&Gclid=1"},
		{ignore, "%75tm_a=1&g%63lid=1&ref%5B%5D=2&ref[]=3&a=utm_b", "a=utm_b"},
		{ignore, "utm+a=1&utm_+a=1&utm_%zz=1", "utm+a=1"},
		// To some servers the id is a parameter of its own.
		{ignore, "utm_a=1;id=5", "utm_a=1;id=5"},
		{ignore, "utm_a=1&b=2;c", "utm_a=1&b=2;c"},
		{middleware.SortParams, "", ""},
		{middleware.SortParams, "b=2&a=1", "a=1&b=2"},
		{middleware.SortParams, "a=2&b=1&a=1", "a=2&a=1&b=1"},
		{middleware.SortParams, "%61=2&b=1&a=1", "%61=2&a=1&b=1"},
		{middleware.SortParams, "a=1&b=1&%61=2", "a=1&%61=2&b=1"},
		{middleware.SortParams, "b=1&a", "a&b=1"},
		{middleware.SortParams, "b=1;c&a=2", "b=1;c&a=2"},
	} {
		if got := test.rule(&url.URL{RawQuery: test.query}); got != test.want {
			t.Errorf("%q: got %q; want %q", test.query, got, test.want)
		}
	}
}

// echo answers with the query as the handler sees it.
func echo(fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { fresh(r.URL.RawQuery, fields...)(w, r) }
}

// Queries of which the rules make the same share an answer; the handler sees its own.
func TestCache_keyQuery(t *testing.T) {
	t.Parallel()
	c := newCached(t, echo(), middleware.WithKeyQuery(shopRules...))
	c.do("GET", "/page?b=2&utm_source=x&a=1").isStored().hasBody(200, "b=2&utm_source=x&a=1")
	for _, query := range []string{"?a=1&b=2", "?b=2&a=1", "?gclid=9&b=2&fbclid=&a=1"} {
		c.do("GET", "/page"+query).isHit().hasBody(200, "b=2&utm_source=x&a=1")
		c.do("HEAD", "/page"+query).isHit()
	}
	c.called(1)
	for _, target := range []string{"/page", "/page?a=1", "/page?a=1&b=3", "/other?a=1&b=2", "/page?a=1&b=2&utm", "/page?a=1;b=2", "/page?"} {
		c.do("GET", target).isStored()
	}
	c.do("GET", "/page?utm_source=x").isHit().hasBody(200, "")
}

// An unsafe request removes what is stored for its URL, and for those that its answer
// names, by the same rules. Red without by in dropResource's callers.
func TestCache_keyQueryInvalidation(t *testing.T) {
	t.Parallel()
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			w.Header().Set("Location", "/named?utm_medium=m&b=1&a=1")
		}
		echo()(w, r)
	}, middleware.WithKeyQuery(shopRules...))
	c.do("GET", "/page?a=1&utm_source=x").isStored()
	c.do("GET", "/named?a=1&b=1&utm_source=x").isStored()
	c.do("GET", "/page?a=2").isStored()
	c.do("POST", "/page?utm_source=y&a=1")
	c.do("GET", "/page?a=1").isStored()
	c.do("GET", "/named?a=1&b=1").isStored()
	c.do("GET", "/page?a=2").isHit()
}

// So does a Purger that has them, hard and soft. Red without by in URLs.
func TestPurger_queryRules(t *testing.T) {
	t.Parallel()
	c := newCached(t, echo(), middleware.WithKeyQuery(shopRules...))
	purger := middleware.NewPurger(c.store, shopRules...)
	fill := func() {
		t.Helper()
		c.do("GET", "/page?a=1&b=1&utm_source=x")
		c.do("GET", "/page?a=2").isHit()
	}
	c.do("GET", "/page?a=2")
	for _, u := range []string{"http://example.com/page?a=1&b=1", "http://example.com/page?b=1&gclid=7&a=1"} {
		fill()
		if err := purger.URLs(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		c.do("GET", "/page?b=1&a=1").isStored()
		if err := purger.Soft().URLs(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		if said := c.do("GET", "/page?b=1&a=1").cacheStatus(); said["fwd"] != "stale" {
			t.Errorf("%s: got %v; want it stale", u, said)
		}
	}
	fill()
	if err := purger.Prefix(t.Context(), "http://example.com/page?a=1&b"); err != nil {
		t.Fatal(err)
	}
	c.do("GET", "/page?b=1&a=1").isStored()
	c.do("GET", "/page?a=2").isHit()
}

// No-Vary-Search of an answer counts on top of the rules, in each process.
func TestCache_keyQueryNoVarySearch(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	rdb, prefix := b.Client(t), b.Prefix(t)
	var both [2]*cached
	for i := range both {
		both[i] = newCachedFor(t, rdb, prefix, nil, echo(`No-Vary-Search: params=("session")`), middleware.WithKeyQuery(shopRules...))
	}
	c, other := both[0], both[1]
	c.do("GET", "/page?a=7") // it learns the field
	c.do("GET", "/page?b=2&a=1&session=1&utm_source=x").isStored()
	c.do("GET", "/page?a=1&session=2&gclid=1&b=2").isHit()
	other.do("GET", "/page?a=7")
	other.do("GET", "/page?session=3&utm_source=y&a=1&b=2").isHit()
	c.do("GET", "/page?a=1&b=3").isStored()
	c.do("POST", "/page?b=2&session=9&utm_source=z&a=1")
	c.do("GET", "/page?a=1&b=2").isStored()
}

// Behind http.StripPrefix, where the key holds what was asked for as well. Red without the
// target's part in by.
func TestCache_keyQueryStripPrefix(t *testing.T) {
	t.Parallel()
	c := newCached(t, echo(), middleware.WithKeyQuery(shopRules...))
	c.Handler = http.StripPrefix("/v1", c.Handler)
	c.do("GET", "/v1/page?b=2&utm_source=x&a=1").isStored()
	c.do("GET", "/v1/page?a=1&b=2").isHit()
	c.do("GET", "/v1/page?a=1").isStored()
	c.do("POST", "/v1/page?b=2&a=1&gclid=1")
	c.do("GET", "/v1/page?a=1&b=2").isStored()
	c.do("GET", "/v1/page?a=1").isHit()
}

// A function of the program's own sees the URL that was asked for, may change its copy, and
// changes nothing that the handler sees.
func TestCache_keyQueryFunction(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	rule := func(u *url.URL) string {
		seen[u.String()] = true
		q := u.Query()
		q.Del("debug")
		u.Path, u.RawQuery, u.Host = "/changed", "changed", "changed"
		if q.Get("page") == "1" {
			q.Del("page")
		}
		return q.Encode()
	}
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) { fresh(r.URL.String())(w, r) },
		middleware.WithKeyQuery(middleware.IgnoreParams("utm_*"), rule))
	c.do("GET", "/a%2Fb?page=1&debug=2&utm_source=x").isStored().hasBody(200, "/a%2Fb?page=1&debug=2&utm_source=x")
	c.do("GET", "/a%2Fb").isHit()
	c.do("GET", "/a%2Fb?page=2").isStored()
	c.do("GET", "/a/b").isStored()
	if !seen["http://example.com/a%2Fb?page=1&debug=2"] {
		t.Errorf("the rule saw %v", seen)
	}
}

func TestWithKeyQuery_panics(t *testing.T) {
	t.Parallel()
	panicsWith(t, "middleware.WithKeyQuery: rule 2 is nil: ", func() { middleware.WithKeyQuery(middleware.SortParams, nil) })
	c := newCached(t, echo())
	panicsWith(t, "middleware.NewPurger: rule 1 is nil: ", func() { middleware.NewPurger(c.store, nil) })
	for _, pattern := range []string{"", "*", "a*b", "*a", "a**"} {
		panicsWith(t, "middleware.IgnoreParams: ", func() { middleware.IgnoreParams("ok", pattern) })
	}
}

// What the rules leave of queries is the same exactly when what they do not ignore is: the
// parts that count, in the order of their names, those of one name in their own.
func FuzzQueryRules(f *testing.F) {
	f.Add("a=1&utm_a=2&b=3", "b=3&a=1")
	f.Add("a=1&%61=2", "%61=2&a=1")
	f.Add("utm_a=1;id=2", "id=2")
	f.Fuzz(func(t *testing.T, a, b string) {
		key := func(query string) string {
			for _, rule := range shopRules {
				query = rule(&url.URL{RawQuery: query})
			}
			return query
		}
		// What a handler makes of a query, with names that are ignored left out.
		meaning := func(query string) string {
			values, err := url.ParseQuery(query)
			if err != nil {
				return "as it is:" + query
			}
			for name := range values {
				if strings.HasPrefix(name, "utm_") || name == "gclid" || name == "fbclid" {
					delete(values, name)
				}
			}
			return values.Encode()
		}
		if key(a) == key(b) && meaning(a) != meaning(b) && !strings.HasPrefix(meaning(a), "as it is:") && !strings.HasPrefix(meaning(b), "as it is:") {
			t.Errorf("%q and %q share a key, and mean %q and %q", a, b, meaning(a), meaning(b))
		}
		if again := key(key(a)); again != key(a) {
			t.Errorf("%q: the rules make %q, and then %q", a, key(a), again)
		}
	})
}
