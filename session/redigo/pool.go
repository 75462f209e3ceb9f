package redigo

import (
	"context"
	"errors"
	"fmt"
	"time"

	redigo "github.com/gomodule/redigo/redis"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
)

// maxIdle is how many Conns the pool keeps. One costs an allocation to make, so
// this says little.
const maxIdle = 16

// Option configures [Pool].
type Option func(*config)

type config struct{ budget time.Duration }

// WithTimeout sets the budget of one round trip to Redis; the default is 50 ms; from
// 1 ms to 30 s. redigo.DoWithTimeout takes another for one call, within the same
// bounds; 0 there means this one.
func WithTimeout(budget time.Duration) Option { return func(c *config) { c.budget = budget } }

// Pool returns a pool whose Conns are views of client, which may be any of
// go-redis's: single, Sentinel, Cluster, Ring. It does no I/O and dials nothing,
// now or later.
//
// Like http.Handle it panics if it is used wrongly: with a nil client, a nil option
// or a budget out of bounds. The panic's value is an error of kind ErrConfig with a
// line for each mistake.
//
// The pool is safe for concurrent use; each Conn from it belongs to one goroutine at
// a time. Its Get, GetContext, Close, Stats, ActiveCount and IdleCount do what redigo
// says, counting views. Close leaves client open.
func Pool(client redis.UniversalClient, options ...Option) *redigo.Pool {
	c := config{budget: rdb.DefaultBudget}
	var mistakes []error
	for i, o := range options {
		if o == nil {
			mistakes = append(mistakes, fmt.Errorf("option %d is nil: leave it out", i+1))
			continue
		}
		o(&c)
	}
	conn, err := rdb.Open(client, c.budget)
	if err != nil {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			mistakes = append(mistakes, joined.Unwrap()...)
		} else {
			mistakes = append(mistakes, err)
		}
	}
	if err := rdb.Misconfigured("redigo.Pool", mistakes...); err != nil {
		panic(err)
	}
	d := &deployment{client: client, conn: conn}
	return &redigo.Pool{
		MaxIdle: maxIdle,
		Dial:    func() (redigo.Conn, error) { return &view{d: d}, nil },
	}
}

// deployment is what all views of one pool look at.
type deployment struct {
	client redis.UniversalClient
	conn   *rdb.Conn
}

// within is the way to the deployment with a budget of timeout, or the pool's own.
func (d *deployment) within(timeout time.Duration) *rdb.Conn {
	if timeout == 0 {
		return d.conn
	}
	conn, err := rdb.Open(d.client, min(max(timeout, rdb.MinBudget), rdb.MaxBudget))
	if err != nil {
		return d.conn // cannot be: Pool has opened it
	}
	return conn
}

// sharded reports whether the keys lie on several servers.
func (d *deployment) sharded() bool {
	switch d.client.(type) {
	case interface {
		ForEachMaster(context.Context, func(context.Context, *redis.Client) error) error
	}, shards:
		return true
	}
	return false
}

// shards is a *redis.Ring.
type shards interface {
	GetShardClientForKey(key string) (*redis.Client, error)
}

// apart reports whether keys lie on different shards of a Ring. A Cluster says so
// itself; a Ring would make a transaction of each shard's.
func (d *deployment) apart(keys []string) bool {
	ring, ok := d.client.(shards)
	if !ok {
		return false
	}
	var first *redis.Client
	for _, key := range keys {
		shard, err := ring.GetShardClientForKey(key)
		if key == "" || err != nil || first != nil && shard != first {
			return true
		}
		first = shard
	}
	return false
}

var errClosed = errors.New("redigo: closed")
