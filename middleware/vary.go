package middleware

import (
	"net/http"
	"strings"
)

// addVary adds name to the Vary field (RFC 9110 section 12.5.5) unless it, or
// "*", is there already.
func addVary(h http.Header, name string) {
	for _, line := range h["Vary"] {
		for member := range strings.SplitSeq(line, ",") {
			member = strings.TrimSpace(member)
			if member == "*" || strings.EqualFold(member, name) {
				return
			}
		}
	}
	h.Add("Vary", name)
}
