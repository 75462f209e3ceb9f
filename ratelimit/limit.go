package ratelimit

import (
	"fmt"
	"math"
	"time"
)

// Limit is a number of requests in any window of a length: not per calendar
// minute, but in every minute wherever it begins.
//
// Make one with [PerSecond], [PerMinute], [PerHour] or [Every]. A Limit is also
// an [Option]: given to [New] behind the first, it is one more tier, and a
// request is admitted when all tiers have room.
type Limit struct {
	requests int
	window   time.Duration
}

// PerSecond is at most n requests in any second.
func PerSecond(n int) Limit { return Limit{n, time.Second} }

// PerMinute is at most n requests in any minute.
func PerMinute(n int) Limit { return Limit{n, time.Minute} }

// PerHour is at most n requests in any hour.
func PerHour(n int) Limit { return Limit{n, time.Hour} }

// Every is at most n requests in any window of the given length, from 1 ms to
// 366 days. Fractions of a microsecond are dropped.
func Every(n int, window time.Duration) Limit { return Limit{n, window.Truncate(time.Microsecond)} }

// Requests is how many requests the limit admits in a window.
func (l Limit) Requests() int { return l.requests }

// Window is the window's length.
func (l Limit) Window() time.Duration { return l.window }

// String is the limit as people write it: "100 per 2s".
func (l Limit) String() string { return fmt.Sprintf("%d per %v", l.requests, l.window) }

func (l Limit) apply(c *config) { c.limits = append(c.limits, l) }

const (
	minWindow = time.Millisecond
	maxWindow = 366 * 24 * time.Hour
	// maxRequests keeps every count exact in Lua and in a 32-bit counter.
	maxRequests = math.MaxInt32
)

func (l Limit) mistake() error {
	switch {
	case l.requests < 1:
		return fmt.Errorf("limit %v: the number of requests must be at least 1; to refuse everybody, do not mount the route", l)
	case l.requests > maxRequests:
		return fmt.Errorf("limit %v: the number of requests must be at most %d", l, maxRequests)
	case l.window < minWindow || l.window > maxWindow:
		return fmt.Errorf("limit %v: the window must be from %v to %v", l, minWindow, maxWindow)
	}
	return nil
}
