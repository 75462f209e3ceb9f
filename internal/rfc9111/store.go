package rfc9111

// Storable says whether a shared cache may store a response (RFC 9111 3), and
// gives with [Store] what is to be kept of it for [Policy.Reuse]. With any other
// verdict the Stored is zero.
//
// It needs the header section alone, so that a cache knows before the first
// octet of the body whether to keep it; whether all of the body came is for
// [Complete] to say.
//
// A cache is never obliged to store. This one does not store what it could
// never use, having no validation yet: no-cache, Vary: *, and what has no
// freshness lifetime or is older than it.
func (p Policy) Storable(req Request, resp Response) (Stored, Verdict) {
	d := ParseResponseDirectives(resp.Header)
	if v := p.forbidden(&req, &resp, &d); v != Store {
		return Stored{}, v
	}
	lifetime, basis := p.Lifetime(resp.Status, resp.Header, d, resp.ResponseTime)
	age := InitialAge(resp.Header, resp.RequestTime, resp.ResponseTime)
	switch {
	case basis == BasisNone:
		return Stored{}, NoFreshness
	case lifetime <= age:
		return Stored{}, Stale
	}
	return Stored{
		Status:       resp.Status,
		ResponseTime: resp.ResponseTime,
		InitialAge:   age,
		Lifetime:     lifetime,
		NoCache:      d.NoCache.Present,
		// s-maxage "incorporates the semantics of proxy-revalidate" (5.2.2.10).
		Revalidate: d.MustRevalidate || d.ProxyRevalidate || d.SMaxage.Present,
		Public:     d.Public,
	}, Store
}

// forbidden returns the first rule that forbids to store, or Store.
func (p Policy) forbidden(req *Request, resp *Response, d *ResponseDirectives) Verdict {
	// A response to HEAD has no body to answer a GET with; to a POST it could
	// be stored with explicit freshness and a Content-Location (RFC 9110
	// 9.3.3), which this version does not do.
	if req.Method != "GET" {
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
	// A list of fields would only forbid to store those (5.2.2.7), but "the
	// qualified form of the directive is often handled by caches as if an
	// unqualified private directive was received".
	case d.Private.Present:
		return ResponsePrivate
	case len(resp.Header["Set-Cookie"]) > 0:
		return SetCookie
	}
	if v := p.authenticated(req, d); v != Store {
		return v
	}
	switch {
	case p.Vary(resp.Header).Any():
		return VaryAny
	// 5.2.2.4 says of the qualified form what 5.2.2.7 says of private's.
	case d.NoCache.Present:
		return ResponseNoCache
	}
	return Store
}

// authenticated is section 3.5, and the Safe profile's narrower rule.
func (p Policy) authenticated(req *Request, d *ResponseDirectives) Verdict {
	if p.Profile != RFC && req.credentials() && !d.Public {
		return Credentials
	}
	// What is malformed forbids but does not permit.
	shared := d.Public || !d.Malformed && (d.MustRevalidate || d.SMaxage.Valid)
	if len(req.Header["Authorization"]) > 0 && !shared {
		return Authorization
	}
	return Store
}

// statusVerdict returns Store unless no directive could make this cache store
// a response with the status.
func statusVerdict(status int) Verdict {
	switch status {
	// These two must be understood to be stored (3): 206 to be combined, 304 to
	// freshen what is stored.
	case 206, 304:
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
// status makes on a cache are kept here (5.2.2.3): those of RFC 9110 15 but for
// 206 and 304, whose absence statusVerdict has seen to. A status not listed may
// have requirements that nobody here has read.
func understood(status int) bool {
	switch {
	case status >= 200 && status <= 205,
		status >= 300 && status <= 303, status == 305, status == 307, status == 308,
		status >= 400 && status <= 417, status == 421, status == 422, status == 426,
		status >= 500 && status <= 505:
		return true
	}
	return false
}
