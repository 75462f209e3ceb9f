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
	problemAbnormalUsage   = "https://iana.org/assignments/http-problem-types#abnormal-usage-detected"
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
	status        int
	problem, text refusalBody
}

// refusalBody is a problem in one media type.
type refusalBody struct {
	media, length string
	content       []byte
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
	text := p.Title + "\n"
	if p.Detail != "" {
		text += p.Detail + "\n"
	}
	return refusal{
		status:  p.Status,
		problem: refusalBody{"application/problem+json", strconv.Itoa(len(body)), body},
		text:    refusalBody{"text/plain; charset=utf-8", strconv.Itoa(len(text)), []byte(text)},
	}
}

// write answers in application/problem+json.
func (f refusal) write(w http.ResponseWriter, retryAfter time.Duration) {
	f.send(w, f.problem, retryAfter)
}

// answer is write in the media type that r prefers. The answer does not say Vary:
// Accept, as it is not stored (RFC 9110 section 12.5.5 asks it of cacheable ones).
func (f refusal) answer(w http.ResponseWriter, r *http.Request, retryAfter time.Duration) {
	body := f.problem
	if prefersText(r.Header) {
		body = f.text
	}
	f.send(w, body, retryAfter)
}

func (f refusal) send(w http.ResponseWriter, body refusalBody, retryAfter time.Duration) {
	h := w.Header()
	for _, name := range entityFields {
		delete(h, name)
	}
	if retryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(ceilSeconds(retryAfter), 10))
	}
	// One allocation for four lists that share nothing: none has room to grow.
	v := []string{body.media, "no-store", "nosniff", body.length}
	h["Content-Type"], h["Cache-Control"] = v[0:1:1], v[1:2:2]
	h["X-Content-Type-Options"], h["Content-Length"] = v[2:3:3], v[3:4:4]
	w.WriteHeader(f.status)
	_, _ = w.Write(body.content) // the client may be gone
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
