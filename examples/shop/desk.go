package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// desk is what the shop itself keeps in Redis, on the same client as Weir:
//
//	key                         type        lifetime
//	shop:{sales}:board          sorted set  30 days from the last sale
//	shop:{sales}:counted:ORDER  string      15 days
//	shop:{user:ID}:recent       list        30 days from the last order
//	shop:{user:ID}:roles        set         none
//
// It waits for Redis for as long as Weir does, and for a while after it was silent
// not at all.
type desk struct {
	rdb    redis.UniversalClient
	wait   time.Duration
	silent atomic.Int64 // until when, µs since 1970
}

const (
	silence = 250 * time.Millisecond

	boardKey      = "shop:{sales}:board"
	boardLifetime = 30 * 24 * time.Hour
	// An order is counted once for as long as its event may come again: twice the
	// stream's retention, and a day.
	countedLifetime = 15 * 24 * time.Hour

	recentLength   = 10
	recentLifetime = 30 * 24 * time.Hour
)

var errSilent = errors.New("redis gave no answer in time")

func countedKey(order string) string { return "shop:{sales}:counted:" + order }
func recentKey(user int64) string    { return fmt.Sprintf("shop:{user:%d}:recent", user) }
func rolesKey(user int64) string     { return fmt.Sprintf("shop:{user:%d}:roles", user) }

// within runs f, and leaves it to itself when the budget is over: by default go-redis
// does not end a call with its context.
func within[T any](ctx context.Context, d *desk, f func(context.Context) (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	var none T
	if time.Now().UnixMicro() < d.silent.Load() {
		return none, errSilent
	}
	done := make(chan result, 1)
	go func() {
		v, err := f(ctx)
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		if r.err != nil && ctx.Err() == nil {
			return none, fmt.Errorf("%w: %w", errSilent, r.err)
		}
		return r.v, r.err
	case <-time.After(d.wait):
		d.silent.Store(time.Now().Add(silence).UnixMicro())
		return none, errSilent
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// view is what is read of the desk for a page.
type view struct {
	board  []redis.Z // the products sold most, by their ids
	recent []string  // the user's latest orders, by their ids
	roles  []string  // the user's
}

// read is one round trip for all of it; user is nil for nobody.
func (d *desk) read(ctx context.Context, user *User) (view, error) {
	return within(ctx, d, func(ctx context.Context) (v view, err error) {
		var board *redis.ZSliceCmd
		var recent, roles *redis.StringSliceCmd
		_, err = d.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			board = p.ZRevRangeWithScores(ctx, boardKey, 0, 4)
			if user != nil {
				recent = p.LRange(ctx, recentKey(user.ID), 0, recentLength-1)
				roles = p.SMembers(ctx, rolesKey(user.ID))
			}
			return nil
		})
		if err != nil {
			return view{}, err
		}
		v.board = board.Val()
		if user != nil {
			v.recent, v.roles = recent.Val(), roles.Val()
		}
		return v, nil
	})
}

func (d *desk) hasRole(ctx context.Context, user User, role string) (bool, error) {
	return within(ctx, d, func(ctx context.Context) (bool, error) {
		return d.rdb.SIsMember(ctx, rolesKey(user.ID), role).Result()
	})
}

func (d *desk) giveRole(ctx context.Context, user User, role string) error {
	_, err := within(ctx, d, func(ctx context.Context) (int64, error) {
		return d.rdb.SAdd(ctx, rolesKey(user.ID), role).Result()
	})
	return err
}

// remember puts an order on top of its user's list. Done again it changes nothing
// but the order of the list.
func (d *desk) remember(ctx context.Context, o Order) error {
	_, err := within(ctx, d, func(ctx context.Context) ([]redis.Cmder, error) {
		key := recentKey(o.User)
		return d.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.LRem(ctx, key, 0, o.ID)
			p.LPush(ctx, key, o.ID)
			p.LTrim(ctx, key, 0, recentLength-1)
			p.Expire(ctx, key, recentLifetime)
			return nil
		})
	})
	return err
}

// countSale counts an order's pieces once, however often it is called, and though
// go-redis sends a script again whose reply was lost.
var countSale = redis.NewScript(`
-- KEYS: the board; the note that the order was counted
-- ARGV: product, pieces, lifetimes of board and note in seconds
if redis.call('SET', KEYS[2], 1, 'NX', 'EX', ARGV[4]) then
	redis.call('ZINCRBY', KEYS[1], ARGV[2], ARGV[1])
	redis.call('EXPIRE', KEYS[1], ARGV[3])
	return 1
end
return 0
`)

func (d *desk) count(ctx context.Context, o Order) error {
	_, err := within(ctx, d, func(ctx context.Context) (any, error) {
		return countSale.Run(ctx, d.rdb, []string{boardKey, countedKey(o.ID)},
			o.Product, o.Quantity, int(boardLifetime.Seconds()), int(countedLifetime.Seconds())).Result()
	})
	return err
}
