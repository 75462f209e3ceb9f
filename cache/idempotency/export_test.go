package idempotency

import "time"

// StopRenewals leaves a claim without the timer that renews it, as a process that stands
// still does.
func StopRenewals(c *Claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer.Stop()
}

// Renew is what the timer calls.
func Renew(c *Claim) { c.renew() }

// ForgetClock is a Store that has had no answer yet.
func ForgetClock(s *Store) { s.ahead.Store(0) }

// SetClock has s believe that Redis's clock was d ahead of what it is.
func SetClock(s *Store, d time.Duration) { s.ahead.Add(d.Microseconds()) }

// Key is the key of a record in Redis.
func Key(s *Store, key string) string { return s.redisKey(key) }
