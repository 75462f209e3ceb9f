// Gateway is a caching, rate-limiting reverse proxy in front of any origin.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
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

func main() {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	cfg, err := parseFlags(os.Args[1:], os.Getenv("REDIS_URL"), os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		fmt.Fprintln(os.Stderr, "run with -h for help")
		os.Exit(2)
	}
	rdb, stop, err := demo.Redis(cfg.redis, slog.Default())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	defer stop()
	handler, err := newGateway(cfg, rdb)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if err := demo.Serve(cfg.listen, handler); err != nil {
		log.Fatal(err)
	}
}

// newGateway puts what cfg asks for in front of the origin.
func newGateway(cfg *config, rdb redis.UniversalClient) (http.Handler, error) {
	var chain []middleware.Middleware
	if len(cfg.trust) > 0 {
		chain = append(chain, chimw.ClientIPFromXFF(cfg.trust...))
	}
	if len(cfg.rates) > 0 {
		var tiers []ratelimit.Option
		for _, more := range cfg.rates[1:] {
			tiers = append(tiers, more)
		}
		limiter, err := ratelimit.New(rdb, cfg.rates[0], tiers...)
		if err != nil {
			return nil, err
		}
		chain = append(chain, middleware.RateLimit(limiter, cfg.key))
	}
	if cfg.cache != "off" {
		store, err := cache.New(rdb)
		if err != nil {
			return nil, err
		}
		var profile []middleware.CacheOption
		if cfg.cache == "rfc" {
			profile = append(profile, middleware.WithRFCProfile())
		}
		chain = append(chain, middleware.Cache(store, profile...))
	}
	return middleware.Chain(chain...)(newProxy(cfg)), nil
}
