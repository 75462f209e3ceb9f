// Gateway is a caching, rate-limiting reverse proxy in front of any origin.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"github.com/redis/go-redis/v9"

	chimw "github.com/go-chi/chi/v5/middleware"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/examples/internal/demo"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
)

func main() { os.Exit(run(os.Args[1:])) }

// run is the program; it returns its exit code.
func run(args []string) int {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	cfg, err := parseFlags(args, os.Getenv("REDIS_URL"), os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	// None of this asks Redis for anything: all mistakes come at once.
	rdb, stop, redisErr := demo.Redis(cfg.redis, slog.Default())
	var limiter *ratelimit.Limiter
	var limitErr error
	if redisErr == nil {
		defer stop()
		limiter, limitErr = newLimiter(cfg, rdb)
	}
	if err := errors.Join(err, redisErr, limitErr); err != nil {
		fmt.Fprintf(os.Stderr, "%v\nrun with -h for help\n", err)
		return 2
	}
	refresher := middleware.NewRefresher()
	defer refresher.Close()
	handler, err := newGateway(cfg, rdb, limiter, refresher)
	if err == nil {
		err = demo.Serve(cfg.listen, handler)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// newLimiter keeps the limits of -rate; it is nil if there are none.
func newLimiter(cfg *config, rdb redis.UniversalClient) (*ratelimit.Limiter, error) {
	if len(cfg.rates) == 0 {
		return nil, nil
	}
	options := cfg.limits
	for _, more := range cfg.rates[1:] {
		options = append(options, more)
	}
	return ratelimit.New(rdb, cfg.rates[0], options...)
}

// newGateway puts what cfg asks for in front of the origin.
func newGateway(cfg *config, rdb redis.UniversalClient, limiter *ratelimit.Limiter, refresher *middleware.Refresher) (http.Handler, error) {
	var chain []middleware.Middleware
	if len(cfg.trust) > 0 {
		chain = append(chain, chimw.ClientIPFromXFF(cfg.trust...))
	}
	if limiter != nil {
		chain = append(chain, middleware.RateLimit(limiter, cfg.key))
	}
	if cfg.cache != "off" {
		// Gateways of one origin share responses; those of another must not.
		origin := sha256.Sum256([]byte(cfg.origin.String()))
		store, err := cache.New(rdb, cache.WithPrefix("weir:"+hex.EncodeToString(origin[:8])), cache.WithTimeout(cfg.wait))
		if err != nil {
			return nil, err
		}
		options := []middleware.CacheOption{middleware.WithRefresher(refresher)}
		if cfg.cache == "rfc" {
			options = append(options, middleware.WithRFCProfile())
		}
		chain = append(chain, middleware.Cache(store, options...))
	}
	return middleware.Chain(chain...)(newProxy(cfg)), nil
}
