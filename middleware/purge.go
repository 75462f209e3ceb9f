package middleware

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/go-weir/weir/cache"
)

// Purger removes what [Cache] has stored, for all instances, in one round trip whatever
// the number of responses. What is being made meanwhile is not stored. No route leads to
// it unless the program mounts one of its own, behind its own authentication.
//
// Every error is of kind cache.ErrUnavailable, when Redis did not confirm all of it
// within the store's budget (it may be called again), or of kind cache.ErrConfig for an
// argument that cannot be used. A Purger is safe for concurrent use.
type Purger struct {
	store *cache.Store
	rules []QueryRule
	soft  bool
}

// NewPurger returns a Purger of what is stored in store, by caches that have these rules
// in [WithKeyQuery]. It panics if store or a rule is nil.
func NewPurger(store *cache.Store, rules ...QueryRule) *Purger {
	if store == nil {
		panic("middleware.NewPurger: the store is nil: check the error of cache.New")
	}
	checkRules("NewPurger", rules)
	return &Purger{store: store, rules: rules}
}

// Soft returns a Purger that makes responses stale instead: they are validated when
// they are next asked for, and may be served meanwhile where stale-while-revalidate or
// stale-if-error allows.
func (p *Purger) Soft() *Purger { return &Purger{p.store, p.rules, true} }

// URLs purges what is stored for URLs, all variants of each: absolute ones, with the
// scheme and host that the server itself sees, which behind a proxy that ends TLS is
// "http". Of queries that the Purger's rules take for one, each purges what is stored for
// all. Responses of handlers inside http.StripPrefix, and those that say
// No-Vary-Search, are found by Prefix or tags, not so.
func (p *Purger) URLs(ctx context.Context, urls ...string) error {
	keys := make([]string, len(urls))
	for i, text := range urls {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("middleware: purge: %w: %q: write an absolute URL, such as https://shop.example/products/1", cache.ErrConfig, text)
		}
		path := u.EscapedPath()
		if path == "" {
			path = "/"
		}
		keys[i] = resource{scheme: u.Scheme, host: strings.ToLower(u.Host), path: path, query: u.RawQuery}.by(p.rules).key()
	}
	var all []error
	for _, key := range keys {
		if p.soft {
			all = append(all, p.store.ExpireResource(ctx, key))
		} else {
			all = append(all, p.store.DeleteResource(ctx, key))
		}
	}
	return errors.Join(all...)
}

// Prefix purges what is stored for URLs that begin with prefix, as
// "https://shop.example/products/": at least scheme and host, as for URLs. Of queries
// there is what the caches' rules make of them.
func (p *Purger) Prefix(ctx context.Context, prefix string) error {
	u, err := url.Parse(prefix)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("middleware: purge: %w: prefix %q: write the beginning of an absolute URL, such as https://shop.example/products/", cache.ErrConfig, prefix)
	}
	scheme, rest, _ := strings.Cut(prefix, "://")
	rest = strings.ToLower(u.Host) + rest[len(u.Host):]
	if u.Path == "" && u.RawQuery == "" {
		rest = strings.TrimSuffix(rest, "/") + "/"
	}
	return p.prefix(ctx, scheme+"://"+rest)
}

func (p *Purger) prefix(ctx context.Context, prefix string) error {
	if p.soft {
		return p.store.ExpireResources(ctx, prefix)
	}
	return p.store.DeleteResources(ctx, prefix)
}

// Tags purges responses that have one of the tags: by [cache.Tag] in their handler, or
// by a field that [WithTagFields] names. It purges typed data of the store that has the
// tag as well.
func (p *Purger) Tags(ctx context.Context, tags ...string) error {
	if p.soft {
		return p.store.ExpireTags(ctx, tags...)
	}
	return p.store.DeleteTags(ctx, tags...)
}

// Groups purges responses of an origin, such as "https://shop.example", that belong to
// one of the cache groups (RFC 9875).
func (p *Purger) Groups(ctx context.Context, origin string, groups ...string) error {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.TrimSuffix(u.Path, "/") != "" {
		return fmt.Errorf("middleware: purge: %w: origin %q: write scheme and host, such as https://shop.example", cache.ErrConfig, origin)
	}
	tags := make([]string, len(groups))
	for i, group := range groups {
		tags[i] = groupTag(u.Scheme+"://"+strings.ToLower(u.Host), group)
	}
	return p.Tags(ctx, tags...)
}

// All purges all responses; typed data of the store stays.
func (p *Purger) All(ctx context.Context) error { return p.prefix(ctx, "") }
