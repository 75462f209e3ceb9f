// Shop is a small web shop that uses all of Weir on one Redis client, with a page to
// watch it. Behind the caches is SQLite: what is true is there.
//
//	make shop            # on localhost:8082, with an embedded Redis
//	REDIS_URL=redis://... go -C examples/shop run . -db /tmp/shop.db -listen localhost:8083
//
// Any number of its processes may share one Redis and one database file.
//
//	user.go        read through the cache, which forgets them when they are changed
//	order.go       written through the cache, in one transaction with their event
//	outbox.go      events, published once at least, also those of a process that died
//	consumer.go    a durable stream's groups: confirmations, and lists made of orders
//	payment.go     under a lock and an Idempotency-Key; charged once whatever dies
//	credit.go      prepaid, never below 0
//	product.go     pages kept for everybody, purged by tag when a product is changed
//	device.go      where a user is logged in; out of one, of the others, of all
//	desk.go        the shop's own use of the client: leaderboard, recent orders, roles
//	live.go        what the page shows as it happens, of all processes
//	shop.go        the engines, and the order of the wrappers around each route
//	problem.go     refusals as problem+json for programs, as pages for people
//
// While Redis is silent the start page, the products and the forms answer, with what
// there is without it; what needs a session, a lock or a balance is answered 503 with
// Retry-After within the budget (-wait, 50 ms). All of it recovers by itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/go-weir/weir/examples/internal/demo"
)

// config is what the flags say.
type config struct {
	listen   string
	redis    string
	db       string
	admin    string        // the administrator's password
	visits   int           // a minute and address
	logins   int           // that fail, a minute and address
	joins    int           // accounts, an hour and address
	orders   int           // a minute and user
	payment  time.Duration // how long one takes at least
	lease    time.Duration // how soon another process goes on when one has died
	wait     time.Duration // for Redis, at most
	instance string        // what this process is called on the page
}

const usage = `usage: shop [flags]

A small web shop. Shops on one Redis and one database file are one shop.

`

// parseFlags reads the command line. The error is flag.ErrHelp if help was asked for.
func parseFlags(args []string, redisURL string, out io.Writer) (config, error) {
	var cfg config
	fs := flag.NewFlagSet("shop", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.Usage = func() {
		fmt.Fprint(out, usage)
		fs.PrintDefaults()
	}
	fs.StringVar(&cfg.listen, "listen", "localhost:8082", "the `ADDR` to listen on, host:port; port 0 takes a free one")
	fs.StringVar(&cfg.redis, "redis", redisURL, "the `URL` of Redis; default $REDIS_URL, else embedded. Forms:\n"+demo.Forms)
	fs.StringVar(&cfg.db, "db", "", "the SQLite `FILE`; default a temporary one, which goes when the shop ends")
	fs.StringVar(&cfg.admin, "admin-password", "", "the `PASSWORD` of "+adminEmail+", if the database is new; by default one is made up and logged")
	fs.IntVar(&cfg.visits, "visits", 300, "admit `N` requests a minute from one address")
	fs.IntVar(&cfg.logins, "logins", 5, "admit `N` failed logins a minute from one address")
	fs.IntVar(&cfg.joins, "joins", 20, "admit `N` new accounts an hour from one address")
	fs.IntVar(&cfg.orders, "orders", 20, "admit `N` orders a minute of one user")
	fs.DurationVar(&cfg.payment, "payment", 400*time.Millisecond, "have a payment take at least `DURATION`, so that its lock can be seen")
	fs.DurationVar(&cfg.lease, "lease", 10*time.Second, "go on with the work of a process that has died after `DURATION`, from 300ms to 1m")
	fs.DurationVar(&cfg.wait, "wait", 50*time.Millisecond, "wait so long for Redis, `DURATION` from 1ms to 10s, before an answer says what it can without")
	fs.StringVar(&cfg.instance, "instance", fmt.Sprintf("shop-%d", os.Getpid()), "what this process is called on the page, `NAME`")
	if err := fs.Parse(args); err != nil {
		return cfg, err
	}
	if fs.NArg() > 0 {
		return cfg, fmt.Errorf("argument %q: the shop takes flags only", fs.Arg(0))
	}
	return cfg, cfg.validate()
}

// validate has all mistakes in its error. Numbers for Weir's engines they check
// themselves, but for those that no engine is given.
func (c config) validate() error {
	var mistakes []error
	if c.payment < 0 || c.payment > 10*time.Second {
		mistakes = append(mistakes, fmt.Errorf("-payment %v: write a duration up to 10s", c.payment))
	}
	if c.wait < time.Millisecond || c.wait > 10*time.Second {
		mistakes = append(mistakes, fmt.Errorf("-wait %v: write a duration from 1ms to 10s", c.wait))
	}
	if c.lease < 300*time.Millisecond || c.lease > time.Minute {
		mistakes = append(mistakes, fmt.Errorf("-lease %v: write a duration from 300ms to 1m", c.lease))
	}
	if c.admin != "" && len(c.admin) < minPassword {
		mistakes = append(mistakes, fmt.Errorf("-admin-password: write at least %d characters", minPassword))
	}
	return errors.Join(mistakes...)
}

func main() { os.Exit(run(os.Args[1:])) }

// run is the program; it returns its exit code.
func run(args []string) int {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	cfg, err := parseFlags(args, os.Getenv("REDIS_URL"), os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%v\nrun with -h for help\n", err)
		return 2
	}
	if err := serve(cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// serve runs the shop until it is told to stop.
func serve(cfg config) error {
	if cfg.db == "" {
		dir, err := os.MkdirTemp("", "weir-shop-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		cfg.db = filepath.Join(dir, "shop.db")
	}
	rdb, stop, err := demo.Redis(cfg.redis, slog.Default())
	if err != nil {
		return err
	}
	defer stop()
	shop, err := newShop(cfg, rdb)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	background := make(chan struct{})
	go func() {
		defer close(background)
		shop.work(ctx)
	}()
	err = demo.Serve(cfg.listen, shop.handler(), shop.drain)
	cancel()
	<-background
	return errors.Join(err, shop.close())
}
