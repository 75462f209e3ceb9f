package middleware

import (
	"net/http"
	"time"

	"github.com/go-weir/weir/internal/rfc9111"
)

// KeyOf is the key under which a request's answer is kept.
var KeyOf = keyOf

// EntryVersion is the first byte of an entry.
const EntryVersion = entryVersion

// Entry is a stored response in the open.
type Entry struct {
	Status                int
	Age, Lifetime         time.Duration
	NoCache, Must, Public bool
	Body                  string
}

// Encode makes an entry of a handler's header and body; what outside holds, the
// handler did not set.
func Encode(e Entry, header, outside http.Header) []byte {
	return encodeResponse(rfc9111.Stored{
		Status: e.Status, InitialAge: e.Age, Lifetime: e.Lifetime, NoCache: e.NoCache, Revalidate: e.Must, Public: e.Public,
	}, ownFields(header, outside), []byte(e.Body))
}

// Decode reads an entry, and adds its fields to h.
func Decode(data string, h http.Header) (Entry, error) {
	s, err := decodeResponse(data)
	if err != nil {
		return Entry{}, err
	}
	s.setHeader(h)
	return Entry{
		Status: s.rules.Status, Age: s.rules.InitialAge, Lifetime: s.rules.Lifetime,
		NoCache: s.rules.NoCache, Must: s.rules.Revalidate, Public: s.rules.Public, Body: s.body,
	}, nil
}

// Check decodes an entry and leaves it at that.
func Check(data string) bool {
	_, err := decodeResponse(data)
	return err == nil
}
