package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// limit is what every contestant is asked to keep: a number of requests in a
// window.
type limit struct {
	requests int
	window   time.Duration
}

// contestant is what is compared, or one way to configure it. Each is a file of
// its own. Open is the function that opens one.
type contestant[Open any] struct {
	name string
	// client changes the options that all contestants' clients have in common;
	// nil leaves them.
	client func(*redis.Options)
	// open makes it on a client that nobody else uses.
	open Open
	// only names the tables the contestant is in; nil is all of them.
	only []table
	// floor says that it does only what all have to do at least, and keeps no
	// promise: it admits everybody, or forgets what a session holds.
	floor bool
}

// limiting is a contestant that limits rates.
type limiting = contestant[func(*redis.Client, limit) (limiter, error)]

// limiter is what a contestant decides with. Both functions are called from many
// goroutines.
type limiter struct {
	// allow decides about one request. An error means there is no verdict.
	allow func(ctx context.Context, key string) (bool, error)
	// spend decides about one request that costs n. It is nil for a contestant
	// without weights; it is used only to fill keys with a million requests.
	spend func(ctx context.Context, key string, n int) (bool, error)
}

// table is a kind of table of the report.
type table string

const (
	inAllowed  table = "allowed"
	inDenied   table = "denied"
	inDistance table = "distance"
	inCost     table = "cost"
	inMemory   table = "memory"
	inExact    table = "exactness"
)

// contestants are the limiters, in the order of the tables' rows. To add one,
// write its file and name it here.
var contestants = []limiting{
	bareTrip,
	weir,
	weirDeadline,
	weirNoDenyCache,
	weirSingly,
	redisRate,
	uluLimiter,
	throttledGCRA,
	httprateRedis,
	plainPipeline,
}

// The two that all other limiters are compared with.
var references = []string{redisRate.name, weir.name}

// entrants are the limiters of one table.
func entrants(in table) []limiting {
	return slices.DeleteFunc(slices.Clone(contestants), func(c limiting) bool {
		return c.only != nil && !slices.Contains(c.only, in) || c.floor && (in == inMemory || in == inExact)
	})
}

// names are those of several contestants.
func names[Open any](of []contestant[Open]) []string {
	all := make([]string, len(of))
	for i, c := range of {
		all[i] = c.name
	}
	return all
}

// byName finds a limiter again in another process.
func byName(name string) (limiting, error) {
	i := slices.IndexFunc(contestants, func(c limiting) bool { return c.name == name })
	if i < 0 {
		return limiting{}, fmt.Errorf("no contestant is named %q", name)
	}
	return contestants[i], nil
}

// dial returns the contestant's client. All have go-redis's default options, but
// for the size of the pool: 0 is the default, 10 per core. The caller closes it.
func (c contestant[Open]) dial(addr string, pool int) *redis.Client {
	options := &redis.Options{Addr: addr, PoolSize: pool}
	if c.client != nil {
		c.client(options)
	}
	return redis.NewClient(options)
}

// keysOf returns n keys that no other limiter has: some use the same names in
// Redis. All have one length, so that no contestant sends more bytes for it.
func keysOf(c limiting, n int) []string {
	at := slices.Index(names(contestants), c.name)
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("%c-%09d", 'a'+at, i)
	}
	return keys
}
