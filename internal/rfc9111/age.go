package rfc9111

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ParseAge reads the Age field of a header (RFC 9111 5.1). Of a list, be it in
// one line or in several, the first member counts. A value that is not a
// non-negative integer is as good as no field, and ok is false; then the
// response is as old as its Date says. Values beyond MaxDelta are MaxDelta.
//
// Behind a semicolon there may be parameters, as behind any Integer of a structured
// field (RFC 9651 3.1.2); they are ignored, not the field. Read strictly, 5.1 has such
// a field ignored whole ("SHOULD"): a response that says it is two hours old would
// then be new.
func ParseAge(h http.Header) (age time.Duration, ok bool) {
	lines := h["Age"]
	if len(lines) == 0 {
		return 0, false
	}
	first := lines[0]
	if i := strings.IndexAny(first, ",;"); i >= 0 {
		first = first[:i]
	}
	return parseDelta(trimOWS(first), false)
}

// InitialAge is corrected_initial_age (RFC 9111 4.2.3): how old a response was
// when its header section arrived. It is the greater of what the response's
// Age, with the time it was under way added, and its Date say; the RFC allows
// to leave the Date out of it, for caches in front of which no other cache is
// too old to send Age.
//
// The Date counts from the whole second in which the response arrived, as it
// has no smaller unit: otherwise every response would be up to a second old
// when it is new. A Date in the future or one that cannot be read adds nothing.
func InitialAge(h http.Header, requestTime, responseTime time.Time) time.Duration {
	var apparent time.Duration
	if date, _, ok := dateField(h, "Date", responseTime); ok {
		apparent = delta(responseTime.Truncate(time.Second).Sub(date))
	}
	age, _ := ParseAge(h)
	corrected := delta(age + delta(responseTime.Sub(requestTime)))
	return max(apparent, corrected)
}

// CurrentAge is current_age (RFC 9111 4.2.3): how old a response is by now. A
// clock that went back since the response was stored makes it no younger.
func CurrentAge(initial time.Duration, responseTime, now time.Time) time.Duration {
	return delta(initial + delta(now.Sub(responseTime)))
}

// delta confines a duration to 0 and MaxDelta (1.2.2). The sum of two such
// durations cannot overflow.
func delta(d time.Duration) time.Duration {
	return min(max(d, 0), MaxDelta)
}

// SetAge sets the Age field that every response from a cache must carry (RFC
// 9111 4 and 5.1): whole seconds, rounded down, from 0 to 2^31. The slice it
// puts in the map is a new one.
func SetAge(h http.Header, age time.Duration) {
	h["Age"] = []string{strconv.FormatInt(int64(delta(age)/time.Second), 10)}
}
