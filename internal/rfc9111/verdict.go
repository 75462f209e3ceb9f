package rfc9111

// Verdict says whether a response may be stored or reused, and which rule said
// so. The zero value is no verdict and permits nothing.
type Verdict uint8

// The verdicts that permit.
const (
	_               Verdict = iota
	Store                   // the response may be stored
	Fresh                   // the stored response is fresh and may answer
	StaleAllowed            // it is stale, and the client's max-stale accepts that (5.2.1.2)
	StaleRefreshing         // it is stale, and may answer while it is validated (RFC 5861 3)
	StaleOnError            // it is stale, and may answer since the origin fails (4.2.4, RFC 5861 4)
)

// The verdicts that refuse. A comment names the section that does.
const (
	// About the request.
	MethodNotCached     Verdict = iota + 16 // 3: neither GET nor, for reuse, HEAD, nor a POST that gives its own URI (9110 9.3.3)
	RequestBody                             // 9110 9.3.1: content in a GET has no defined meaning, so no cache key covers it
	RequestRange                            // 3.3: the range asked for is not in what is stored
	RequestPrecondition                     // 4.3.2: If-Match and If-Unmodified-Since are the origin's to evaluate
	RequestUpgrade                          // 9110 7.8: the request asks to leave HTTP
	RequestNoStore                          // 5.2.1.5
	RequestNoCache                          // 5.2.1.4, or Pragma (5.4)
	RequestMaxAge                           // 5.2.1.1
	RequestMinFresh                         // 5.2.1.3
	Credentials                             // the Safe profile: Cookie or Authorization, and not public
	Unkeyed                                 // the Safe profile: a field that URLs are built from, and that no key covers

	// About the response.
	StatusNotFinal    // 3: 1xx, or no status of HTTP
	StatusUnsupported // 3: 304, which only freshens what is stored
	PartUnusable      // 3.3: a 206 of several parts, or whose Content-Range does not fit
	StatusNeverStored // RFC 6585 3 to 6: 428, 429, 431, 511
	NotUnderstood     // 5.2.2.3: must-understand with a status unknown here
	ResponseNoStore   // 5.2.2.5
	ResponsePrivate   // 5.2.2.7
	ResponseNoCache   // 5.2.2.4: needs validation
	Authorization     // 3.5
	SetCookie         // the Safe profile, 7.3
	VaryAny           // 4.1: Vary: * matches no request
	NoFreshness       // 3, 4.2.2: no lifetime declared, none to be guessed
	Stale             // 4.2: not fresh, and nothing allows to use it so
)

var verdictNames = [...]string{
	Store:           "store",
	Fresh:           "fresh",
	StaleAllowed:    "stale-allowed",
	StaleRefreshing: "stale-while-revalidate",
	StaleOnError:    "stale-if-error",

	MethodNotCached:     "method",
	RequestBody:         "request-body",
	RequestRange:        "request-range",
	RequestPrecondition: "request-precondition",
	RequestUpgrade:      "request-upgrade",
	RequestNoStore:      "request-no-store",
	RequestNoCache:      "request-no-cache",
	RequestMaxAge:       "request-max-age",
	RequestMinFresh:     "request-min-fresh",
	Credentials:         "credentials",
	Unkeyed:             "unkeyed-header",
	StatusNotFinal:      "status-not-final",
	StatusUnsupported:   "status-unsupported",
	PartUnusable:        "part-unusable",
	StatusNeverStored:   "status-never-stored",
	NotUnderstood:       "must-understand",
	ResponseNoStore:     "no-store",
	ResponsePrivate:     "private",
	ResponseNoCache:     "no-cache",
	Authorization:       "authorization",
	SetCookie:           "set-cookie",
	VaryAny:             "vary-any",
	NoFreshness:         "no-freshness",
	Stale:               "stale",
}

// String returns the verdict's name, always a valid structured-field token
// (RFC 9651 3.3.4), so that it can be the detail of Cache-Status as it is.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) && verdictNames[v] != "" {
		return verdictNames[v]
	}
	return "undecided"
}

// OK reports whether the verdict permits.
func (v Verdict) OK() bool {
	return v >= Store && v <= StaleOnError
}

// AboutRequest reports whether the verdict is about one request and who made it,
// and says nothing of what others may be answered.
func (v Verdict) AboutRequest() bool {
	return v >= MethodNotCached && v <= Unkeyed || v == Authorization || v == SetCookie
}

// Forward returns the fwd parameter of Cache-Status (RFC 9211 2.2) for a
// request that went to the origin because of v, a refusal by [Bypass] or
// [Policy.Reuse]. For every other verdict it is FwdMiss.
func (v Verdict) Forward() Forward {
	switch v {
	case MethodNotCached:
		return FwdMethod
	case RequestBody, RequestPrecondition, RequestUpgrade, Credentials:
		return FwdBypass
	case RequestRange:
		return FwdPartial
	case RequestNoCache, RequestMaxAge, RequestMinFresh:
		return FwdRequest
	case Stale, ResponseNoCache:
		return FwdStale
	}
	return FwdMiss
}
