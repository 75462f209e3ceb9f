package middleware

import (
	"net/http"
	"time"

	"github.com/go-weir/weir/internal/rfc9111"
)

// KeyOf is the key under which a request's answer is kept.
func KeyOf(r *http.Request) string { return resourceOf(r).key() }

// WithRandom has a cache draw from f.
func WithRandom(f func() float64) CacheOption { return func(c *responseCache) { c.random = f } }

// KeyUnder is the key where answers say No-Vary-Search, and what that makes of the query.
func KeyUnder(r *http.Request, field string) (key, query string) {
	u := resourceOf(r)
	return u.keyUnder(field), rfc9111.ParseNoVarySearch(http.Header{"No-Vary-Search": {field}}).Query(u.query)
}

// KeyOfAll is what a path with whatever query is learnt under.
func KeyOfAll(r *http.Request) string { return resourceOf(r).allQueries() }

// VariantOf is the variant that a request's header selects.
func VariantOf(vary string, h http.Header) string {
	c := new(responseCache)
	return c.variant(c.vary(vary), h)
}

// EntryVersion is the first byte of an entry.
const EntryVersion = entryVersion

// Entry is a stored response in the open.
type Entry struct {
	Status                int
	Age, Lifetime         time.Duration
	NoCache, Must, Public bool
	Declared, Immutable   bool
	Validator             bool
	Revalidate, Error     time.Duration
	First, Size           int64
	Body                  int64 // its length
}

func (e Entry) rules() rfc9111.Stored {
	return rfc9111.Stored{
		Status: e.Status, InitialAge: e.Age, Lifetime: e.Lifetime, WhileRevalidate: e.Revalidate, IfError: e.Error,
		NoCache: e.NoCache, Revalidate: e.Must, Public: e.Public, Declared: e.Declared, Immutable: e.Immutable, Validator: e.Validator,
		First: e.First, Size: e.Size,
	}
}

// Encode makes an entry of a handler's header; what outside holds, the handler did not
// set.
func Encode(e Entry, header, outside http.Header) []byte {
	return encodeResponse(e.rules(), ownFields(header, outside))
}

// Decode reads an entry with a body of some length, and adds its fields to h.
func Decode(data string, body int64, h http.Header) (Entry, error) {
	s, err := decodeResponse(data, body)
	if err != nil {
		return Entry{}, err
	}
	s.setHeader(h)
	r := s.rules
	return Entry{
		Status: r.Status, Age: r.InitialAge, Lifetime: r.Lifetime, Revalidate: r.WhileRevalidate, Error: r.IfError,
		NoCache: r.NoCache, Must: r.Revalidate, Public: r.Public, Declared: r.Declared, Immutable: r.Immutable, Validator: r.Validator,
		First: r.First, Size: r.Size, Body: body,
	}, nil
}

// Check decodes an entry and leaves it at that.
func Check(data string, body int64) bool {
	_, err := decodeResponse(data, body)
	return err == nil
}
