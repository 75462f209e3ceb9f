package rfc9111

import "net/http"

// Storable says whether a shared cache may store a response (RFC 9111 3), and
// gives with [Store] what is to be kept of it for [Policy.Reuse]. With any other
// verdict the Stored is zero.
//
// It needs the header section alone, so that a cache knows before the first
// octet of the body whether to keep it; whether all of the body came is for
// [Complete] to say.
//
// A cache is never obliged to store. This one does not store what it could
// never use: Vary: *, what says nothing of its freshness, and what can only be
// used after validation but has no validator.
func (p Policy) Storable(req Request, resp Response) (Stored, Verdict) {
	d := p.Directives(resp.Header)
	if v := p.forbidden(&req, &resp, &d); v != Store {
		return Stored{}, v
	}
	lifetime, basis := p.Lifetime(resp.Status, resp.Header, d, resp.ResponseTime)
	s := Stored{
		Status:       resp.Status,
		ResponseTime: resp.ResponseTime,
		InitialAge:   InitialAge(resp.Header, resp.RequestTime, resp.ResponseTime),
		Lifetime:     lifetime,
		NoCache:      d.NoCache.Present && d.NoCache.Fields == nil,
		// s-maxage "incorporates the semantics of proxy-revalidate" (5.2.2.10).
		Revalidate: d.MustRevalidate || d.ProxyRevalidate || d.SMaxage.Present,
		Public:     d.Public || d.SMaxage.Valid && !d.Malformed,
		Declared:   basis == BasisSMaxage || basis == BasisMaxAge || basis == BasisExpires,
		Immutable:  d.Immutable,
		Validator:  HasValidator(resp.Header, resp.ResponseTime),
	}
	if !s.Revalidate && !s.NoCache { // which forbid what these permit (4.2.4)
		s.WhileRevalidate, s.IfError = d.StaleWhileRevalidate.Value, d.StaleIfError.Value
	}
	if resp.Status == http.StatusPartialContent {
		part, ok := ParseContentRange(resp.Header)
		if !ok {
			return Stored{}, PartUnusable
		}
		s.First, s.Size = part.First, part.Size
	}
	switch {
	case s.NoCache && !s.Validator:
		return Stored{}, ResponseNoCache
	case basis == BasisNone && !s.NoCache:
		return Stored{}, NoFreshness
	case lifetime <= s.InitialAge && !s.Validator && s.InitialAge-lifetime >= max(s.WhileRevalidate, s.IfError):
		return Stored{}, Stale
	// RFC 9110 9.3.3: the answer to a POST needs "explicit freshness information".
	case req.Method == "POST" && !s.Declared:
		return Stored{}, NoFreshness
	}
	return s, Store
}

// forbidden returns the first rule that forbids to store, or Store.
func (p Policy) forbidden(req *Request, resp *Response, d *ResponseDirectives) Verdict {
	switch req.Method {
	case "GET":
	case "POST":
		if resp.Status != http.StatusOK || !req.located(resp.Header) {
			return MethodNotCached
		}
	default: // a response to HEAD has no body to answer a GET with
		return MethodNotCached
	}
	if v := statusVerdict(resp.Status); v != Store {
		return v
	}
	if d.MustUnderstand && !understood(resp.Status) {
		return NotUnderstood
	}
	switch {
	case req.Directives.NoStore:
		return RequestNoStore
	// must-understand comes with no-store for caches that do not know it; one
	// that does, and understands the status, ignores the no-store (5.2.2.3).
	case d.NoStore && !d.MustUnderstand:
		return ResponseNoStore
	// A list of fields forbids to store those alone (5.2.2.7): see StoredHeader.
	case d.Private.Present && d.Private.Fields == nil:
		return ResponsePrivate
	case len(resp.Header["Set-Cookie"]) > 0 && !p.cookies():
		return SetCookie
	}
	if v := p.authenticated(req, d); v != Store {
		return v
	}
	vary := p.Vary(resp.Header)
	switch {
	case vary.Any():
		return VaryAny
	case !p.forwarded() && req.unkeyed(vary):
		return Unkeyed
	}
	return Store
}

// urlFields are request header fields that applications and their frameworks
// build URLs and redirects from, or choose another resource or method by.
var urlFields = [...]string{
	"Forwarded", "X-Forwarded-Host", "X-Forwarded-Scheme", "X-Forwarded-Port", "X-Forwarded-Prefix",
	"X-Host", "X-Original-Host", "X-Original-Url", "X-Rewrite-Url", "X-Http-Method", "X-Http-Method-Override", "X-Method-Override",
}

// unkeyed reports whether the request has one of urlFields, or X-Forwarded-Proto,
// that vary does not name. What load balancers say of every request does not count.
func (r *Request) unkeyed(vary Vary) bool {
	for _, name := range urlFields {
		if r.steers(name) && !vary.has(name) {
			return true
		}
	}
	return r.steers("X-Forwarded-Proto") && !vary.has("X-Forwarded-Proto")
}

// steers reports whether the request has a field with a value that could lead
// somewhere: any but its own Host, which is part of the key, http or https, and
// their ports.
func (r *Request) steers(name string) bool {
	for _, v := range r.Header[name] {
		switch {
		case name == "X-Forwarded-Proto" && (v == "http" || v == "https"):
		case name == "X-Forwarded-Port" && (v == "80" || v == "443"):
		case name == "X-Forwarded-Host" && r.Host != "" && v == r.Host:
		default:
			return true
		}
	}
	return false
}

// located reports whether the response to a POST says that it is what a GET of
// the same URI would give (RFC 9110 9.3.3): by one Content-Location, the URI.
func (r *Request) located(h http.Header) bool {
	lines := h["Content-Location"]
	return len(lines) == 1 && r.URL != nil && sameURL(r.URL, lines[0])
}

// authenticated is section 3.5, and the Safe profile's narrower rule.
func (p Policy) authenticated(req *Request, d *ResponseDirectives) Verdict {
	if d.Public {
		return Store
	}
	// What is malformed forbids but does not permit.
	shared := !d.Malformed && d.SMaxage.Valid
	if !p.credentials() && (req.cookie() || req.authorization() && !shared) {
		return Credentials
	}
	if req.authorization() && !shared && (d.Malformed || !d.MustRevalidate) {
		return Authorization
	}
	return Store
}

// statusVerdict returns Store unless no directive could make this cache store
// a response with the status.
func statusVerdict(status int) Verdict {
	switch status {
	case 304:
		return StatusUnsupported
	// "Responses with the 428 status code MUST NOT be stored by a cache", and
	// so for each (RFC 6585 3, 4, 5 and 6). They are about one client.
	case 428, 429, 431, 511:
		return StatusNeverStored
	}
	// Beyond 599 there are no statuses (RFC 9110 15).
	if status < 200 || status > 599 {
		return StatusNotFinal
	}
	return Store
}

// understood reports whether the requirements that the definition of the
// status makes on a cache are kept here (5.2.2.3): those of RFC 9110 15. A status not listed may
// have requirements that nobody here has read.
func understood(status int) bool {
	switch {
	case status >= 200 && status <= 206,
		status >= 300 && status <= 303, status == 305, status == 307, status == 308,
		status >= 400 && status <= 417, status == 421, status == 422, status == 426,
		status >= 500 && status <= 505:
		return true
	}
	return false
}
