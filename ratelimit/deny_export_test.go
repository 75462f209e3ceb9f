package ratelimit

import "time"

// RememberDenied has l remember a denial of key for an hour.
func (l *Limiter) RememberDenied(key string) {
	r := Result{Limit: l.limits[0], denies: true, ResetAfter: time.Hour, RetryAfter: time.Hour, At: time.Now(), asked: l.watch.now()}
	l.deny.keep(l.deny.mark(key), l, 1, r, l.deny.shards[l.deny.mark(key).a%denyShards].changes)
}
