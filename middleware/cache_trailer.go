package middleware

import (
	"net/http"
	"slices"
	"strings"
)

// addTrailers adds the trailer section of a whole answer to the fields that are stored,
// under the keys by which net/http knows trailers that a header holds. One that has
// announced its length is stored without: over HTTP/1.1 it can have none, and it may be
// stored before they are known. With them none is announced for what is stored either.
func (f *forwarded) addTrailers(fields map[string]storedField) {
	if len(f.header["Content-Length"]) > 0 || f.rules.Status == http.StatusPartialContent || f.response.Discarded() {
		return
	}
	trailer := make(http.Header)
	var announced []string
	h := f.w.Header()
	for _, line := range f.header["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.Trim(name, " \t"))
			if values := h[name]; len(values) > 0 {
				trailer[name] = values
				announced = append(announced, name)
			}
		}
	}
	for key, values := range h {
		if name, ok := strings.CutPrefix(key, http.TrailerPrefix); ok && !slices.Equal(values, f.outside[key]) {
			name = http.CanonicalHeaderKey(name)
			trailer[name] = append(trailer[name][:len(trailer[name]):len(trailer[name])], values...)
		}
	}
	trailer = f.cache.policy.StoredTrailer(f.header, trailer)
	if len(trailer) == 0 {
		return
	}
	delete(fields, "Content-Length") // which no trailers follow over HTTP/1.1
	for name, values := range trailer {
		fields[http.TrailerPrefix+name] = storedField{values: values}
	}
	announced = slices.DeleteFunc(announced, func(name string) bool { return len(trailer[name]) == 0 })
	if len(announced) > 0 {
		fields["Trailer"] = storedField{values: announced, added: true}
	}
}

// trailersOf returns the trailers that a header holds.
func trailersOf(h http.Header) http.Header {
	var trailer http.Header
	for key, values := range h {
		if strings.HasPrefix(key, http.TrailerPrefix) {
			if trailer == nil {
				trailer = make(http.Header)
			}
			trailer[key] = values
		}
	}
	return trailer
}

// dropTrailers takes the trailers of a stored answer off the header of one that is only a
// part of it.
func dropTrailers(h http.Header) {
	for key := range h {
		if name, ok := strings.CutPrefix(key, http.TrailerPrefix); ok {
			delete(h, key)
			h["Trailer"] = slices.DeleteFunc(slices.Clone(h["Trailer"]), func(line string) bool { return line == name })
			if len(h["Trailer"]) == 0 {
				delete(h, "Trailer")
			}
		}
	}
}
