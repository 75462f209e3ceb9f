package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-weir/weir/examples/internal/demo"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
)

// config is what the flags say.
type config struct {
	listen string
	origin *url.URL
	redis  string
	rates  []ratelimit.Limit
	limits []ratelimit.Option // besides the rates
	key    middleware.KeyFunc
	cache  string // off, rfc or safe
	wait   time.Duration
	trust  []string
}

const usage = `usage: gateway -origin URL [flags]

A caching, rate-limiting reverse proxy in front of any HTTP origin. Gateways on
one Redis share limits, and those of one origin share the cache.

`

// parseFlags reads the command line. The error has every mistake in it, each with
// its flag and what to write instead; the config has what was right. The error is
// flag.ErrHelp if help was asked for.
func parseFlags(args []string, redisURL string, out io.Writer) (*config, error) {
	cfg := &config{key: middleware.KeyByIP}
	var mistakes []error
	mistake := func(format string, a ...any) { mistakes = append(mistakes, fmt.Errorf(format, a...)) }

	fs := flag.NewFlagSet("gateway", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // mistakes are told once, by the caller
	fs.StringVar(&cfg.listen, "listen", "127.0.0.1:8081", "the `ADDR` to listen on, host:port; port 0 takes a free one")
	origin := fs.String("origin", "", "the `URL` of the server behind, such as http://127.0.0.1:9000 (required)")
	fs.StringVar(&cfg.redis, "redis", redisURL, "the `URL` of Redis; default $REDIS_URL, else embedded. Forms:\n"+demo.Forms)
	fs.Func("rate", "admit `N/WINDOW`, such as 100/2s, for each key; N/WINDOW/BURST for an even rate; N/at-once for so many in flight; repeat it for more tiers; no limit when absent", func(s string) error {
		limit, err := parseRate(s)
		if err != nil {
			mistakes = append(mistakes, err)
			return nil
		}
		cfg.rates = append(cfg.rates, limit)
		return nil
	})
	fs.Func("key", "whom a request counts against, `ip|header:NAME` (default ip)", func(s string) error {
		name, isHeader := strings.CutPrefix(s, "header:")
		switch {
		case s == "ip":
			cfg.key = middleware.KeyByIP
		case isHeader && isToken(name):
			cfg.key = middleware.KeyByHeader(name)
		default:
			mistake("-key %q: write ip, or header:NAME such as header:X-API-Key", s)
		}
		return nil
	})
	fs.Func("silent", "who decides while Redis is silent, `local|open|closed` (default local): this gateway's part of the limits, nobody, or 503", func(s string) error {
		switch s {
		case "local":
		case "open":
			cfg.limits = append(cfg.limits, ratelimit.WithFailOpen())
		case "closed":
			cfg.limits = append(cfg.limits, ratelimit.WithFailClosed())
		default:
			mistake("-silent %q: write local, open or closed", s)
		}
		return nil
	})
	fs.Func("instances", "how many gateways share the limits, `N` (default 1): while Redis is silent each admits its part", func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			mistake("-instances %q: write a number from 1 on", s)
			return nil
		}
		cfg.limits = append(cfg.limits, ratelimit.WithInstances(n))
		return nil
	})
	fs.BoolFunc("shadow", "refuse nobody, and log who would have been", func(string) error {
		cfg.limits = append(cfg.limits, ratelimit.WithShadow(), ratelimit.WithObserver(logShadowed))
		return nil
	})
	fs.StringVar(&cfg.cache, "cache", "safe", "`off|rfc|safe`: no cache, all that RFC 9111 allows, or that without answers that set cookies, and those to requests with Cookie or Authorization unless they say public")
	fs.DurationVar(&cfg.wait, "wait", 50*time.Millisecond, "wait so long for Redis, `DURATION` from 1ms to 10s, before the cache goes on without it")
	fs.Func("trust", "the proxies in front, `CIDR[,CIDR]`: X-Forwarded-For is believed from them alone, and the client's address is the last in it that is none of theirs", func(s string) error {
		for part := range strings.SplitSeq(s, ",") {
			part = strings.TrimSpace(part)
			if _, err := netip.ParsePrefix(part); err != nil {
				mistake("-trust %q: not a CIDR prefix: write one such as 10.0.0.0/8 or 127.0.0.1/32", part)
				continue
			}
			cfg.trust = append(cfg.trust, part)
		}
		return nil
	})

	// Parse stops at the first flag it does not know: note it and go on behind it.
	for rest := args; ; {
		err := fs.Parse(rest)
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(out, usage)
			fs.SetOutput(out)
			fs.PrintDefaults()
			return nil, err
		}
		if err != nil {
			mistakes = append(mistakes, err)
		} else if fs.NArg() > 0 {
			mistake("argument %q: the gateway takes flags only", fs.Arg(0))
		}
		rest = fs.Args()
		if fs.NArg() > 0 && (err == nil || !strings.HasPrefix(rest[0], "-")) {
			rest = rest[1:] // the argument, or the value of the unknown flag
		}
		if len(rest) == 0 {
			break
		}
	}

	var err error
	if cfg.origin, err = parseOrigin(*origin); err != nil {
		mistakes = append(mistakes, err)
	}
	if cfg.cache != "off" && cfg.cache != "rfc" && cfg.cache != "safe" {
		mistake("-cache %q: write off, rfc or safe", cfg.cache)
	}
	return cfg, errors.Join(mistakes...)
}

func parseOrigin(s string) (*url.URL, error) {
	const remedy = "write one such as http://127.0.0.1:9000"
	if s == "" {
		return nil, errors.New("-origin is missing: " + remedy)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("-origin: not a URL: " + remedy) // it may hold a password
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("-origin %q: has a query or a fragment: %s", u.Redacted(), remedy)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("-origin %q: no scheme http or https: %s", u.Redacted(), remedy)
	case u.Hostname() == "":
		return nil, fmt.Errorf("-origin %q: no host: %s", u.Redacted(), remedy)
	}
	return u, nil
}

func parseRate(s string) (ratelimit.Limit, error) {
	const remedy = "write N/WINDOW, such as 100/2s, 10/1s or 5000/1h; N/WINDOW/BURST, such as 60/1m/10; or N/at-once"
	count, length, found := strings.Cut(s, "/")
	n, err := strconv.Atoi(count)
	if length == "at-once" && err == nil && n >= 1 {
		return ratelimit.AtOnce(n, lease), nil
	}
	length, burst, smooth := strings.Cut(length, "/")
	window, err2 := time.ParseDuration(length)
	b, err3 := 1, error(nil)
	if smooth {
		b, err3 = strconv.Atoi(burst)
	}
	switch {
	case !found || err != nil || err2 != nil || err3 != nil:
		return ratelimit.Limit{}, fmt.Errorf("-rate %q: %s", s, remedy)
	case n < 1:
		return ratelimit.Limit{}, fmt.Errorf("-rate %q: N must be at least 1: %s", s, remedy)
	case b < 1:
		return ratelimit.Limit{}, fmt.Errorf("-rate %q: BURST must be at least 1: %s", s, remedy)
	case window < time.Millisecond:
		return ratelimit.Limit{}, fmt.Errorf("-rate %q: WINDOW must be at least 1ms: %s", s, remedy)
	}
	limit := ratelimit.Every(n, window)
	if smooth {
		limit = limit.Smooth(b)
	}
	return limit, nil
}

// lease is how long a gateway that crashed keeps the places of what it had in
// flight; those of a running one are renewed.
const lease = 30 * time.Second

// logShadowed tells whom -shadow has spared.
func logShadowed(ctx context.Context, e ratelimit.Event) {
	if e.Result.Shadowed {
		slog.InfoContext(ctx, "would have been refused", "limit", e.Result.Limit.Name(), "retry_after", e.Result.RetryAfter)
	}
}

// isToken reports whether s can be a field name (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}
