package middleware

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// Problem is a refusal as RFC 9457 describes it. It never holds an internal
// address, a key of Redis or the text of an error.
type Problem struct {
	// Type is a URI that names the kind of problem; empty means "about:blank",
	// of which the title is the status's own.
	Type string `json:"type,omitempty"`
	// Title is the kind in a few words; empty means the status's own.
	Title string `json:"title"`
	// Status is the answer's status code; 0 means 500.
	Status int `json:"status"`
	// Detail is what the client may know of this occurrence.
	Detail string `json:"detail,omitempty"`
	// Policies names the limits that refused the request, for the types of
	// draft-ietf-httpapi-ratelimit-headers.
	Policies []string `json:"violated-policies,omitempty"`
}

// The problem types registered by draft-ietf-httpapi-ratelimit-headers-11,
// section 5.
const (
	problemQuotaExceeded   = "https://iana.org/assignments/http-problem-types#quota-exceeded"
	problemReducedCapacity = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
)

// entityFields describe the body of the response that a problem takes the place
// of, or say how it may be kept; none of them fits the problem.
var entityFields = []string{
	"Accept-Ranges", "Age", "Cache-Control", "Content-Digest", "Content-Disposition", "Content-Encoding",
	"Content-Language", "Content-Length", "Content-Location", "Content-Range", "Etag", "Expires",
	"Last-Modified", "Location", "Repr-Digest", "Trailer",
}

// WriteProblem answers with p as application/problem+json, with Cache-Control:
// no-store, and with Retry-After in whole seconds, rounded up, when retryAfter
// is above 0. Fields of w's header that describe another body are removed.
func WriteProblem(w http.ResponseWriter, p Problem, retryAfter time.Duration) {
	encode(p).write(w, retryAfter)
}

// refusal is a problem ready to be sent, any number of times. What refuses under
// a flood makes its refusals beforehand.
type refusal struct {
	status int
	body   []byte
	length string
}

func encode(p Problem) refusal {
	if p.Status == 0 {
		p.Status = http.StatusInternalServerError
	}
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	body, err := json.Marshal(p)
	if err != nil { // strings and integers always encode
		panic(err)
	}
	return refusal{p.Status, body, strconv.Itoa(len(body))}
}

func (f refusal) write(w http.ResponseWriter, retryAfter time.Duration) {
	h := w.Header()
	for _, name := range entityFields {
		delete(h, name)
	}
	if retryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(ceilSeconds(retryAfter), 10))
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", f.length)
	w.WriteHeader(f.status)
	_, _ = w.Write(f.body) // the client may be gone
}

// ceilSeconds rounds up: a client that waits so long does not come too early.
func ceilSeconds(d time.Duration) int64 {
	seconds := int64(d / time.Second)
	if d%time.Second > 0 {
		seconds++
	}
	return seconds
}

var refusalUnavailable = encode(Problem{
	Type:   problemReducedCapacity,
	Title:  "Temporarily unavailable",
	Status: http.StatusServiceUnavailable,
	Detail: "The request could not be decided in time. Try again shortly.",
})

// unavailable is the answer to a request that cannot be decided without Redis.
func unavailable(w http.ResponseWriter) { refusalUnavailable.write(w, time.Second) }
