package middleware

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/internal/rfc9111"
)

// maxCacheTags is how many tags of a response count, its groups included.
const maxCacheTags = 128

// tags are what purges find an answer by: what the handler has said by cache.Tag, what
// its fields say, and its groups.
func (f *forwarded) tags(h http.Header) []string {
	var tags []string
	if f.noted != nil {
		tags = f.noted()
	}
	for _, name := range f.cache.tagFields {
		for _, line := range h[name] {
			tags = append(tags, strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' })...)
		}
	}
	for _, group := range rfc9111.Groups(h) {
		tags = append(tags, groupTag(f.resource.origin(), group))
	}
	tags = slices.DeleteFunc(tags, func(tag string) bool { return tag == "" || len(tag) > 256 })
	return tags[:min(len(tags), maxCacheTags)]
}

// groupTag is the tag of a cache group, which is one origin's (RFC 9875 section 2.1).
func groupTag(origin, group string) string { return "group:" + rdb.Digest(origin, group) }

// origin is the origin of the resource (RFC 9110 section 4.3.1).
func (u resource) origin() string { return u.scheme + "://" + u.host }

// name is the resource's URL, as prefixes are matched with it.
func (u resource) name() string {
	target := u.target
	if target == "" {
		if target = u.path; u.query != "" {
			target += "?" + u.query
		}
	}
	return u.origin() + target
}

// dropGroups removes the groups that an answer makes invalid (RFC 9875 section 3).
func (f *forwarded) dropGroups(h http.Header) {
	groups := rfc9111.InvalidatedGroups(f.query.Method, http.StatusOK, h)
	if len(groups) == 0 {
		return
	}
	tags := make([]string, len(groups))
	for i, group := range groups {
		tags[i] = groupTag(f.resource.origin(), group)
	}
	ctx := context.WithoutCancel(f.request.Context())
	if err := f.cache.store.DeleteTags(ctx, tags...); err != nil {
		f.failed(ctx, "groups not invalidated", err)
	}
}
