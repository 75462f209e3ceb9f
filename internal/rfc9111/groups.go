package rfc9111

import (
	"net/http"
	"slices"

	"github.com/dunglas/httpsfv"
)

// These bound what one response can say of groups; a cache must support at least
// 32 groups for each stored response, of 32 characters each (RFC 9875 2).
const (
	MaxGroups    = 64
	maxGroupName = 256
)

// Groups returns the groups that a response belongs to, as Cache-Groups has them
// (RFC 9875 2), each once. A field that is not a List of Strings says nothing;
// parameters are ignored; of more than MaxGroups the first count.
func Groups(h http.Header) []string { return groupList(h["Cache-Groups"]) }

// InvalidatedGroups returns the groups that a response makes invalid, as
// Cache-Group-Invalidation has them (RFC 9875 3): those of the request URI's
// origin. The field means nothing in the response to a safe method.
func InvalidatedGroups(method string, status int, h http.Header) []string {
	if lines := h["Cache-Group-Invalidation"]; len(lines) > 0 && Invalidates(method, status) {
		return groupList(lines)
	}
	return nil
}

func groupList(lines []string) []string {
	if len(lines) == 0 {
		return nil
	}
	list, err := httpsfv.UnmarshalList(lines)
	if err != nil {
		return nil
	}
	var out []string
	for _, member := range list {
		item, ok := member.(httpsfv.Item)
		if !ok {
			return nil
		}
		name, ok := item.Value.(string)
		if !ok {
			return nil
		}
		if len(name) <= maxGroupName && len(out) < MaxGroups && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}
