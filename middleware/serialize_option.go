package middleware

import (
	"fmt"
	"net/http"
	"time"

	"github.com/go-weir/weir/cache/lock"
)

// The defaults of Serialize, and the bounds of what may be set.
const (
	defaultLockTTL   = 30 * time.Second
	defaultQueue     = 16
	mostQueue        = 10_000
	defaultQueueWait = 10 * time.Second
	mostQueueWait    = time.Hour
)

// SerializeOption configures [Serialize].
type SerializeOption func(*serializeConfig)

type serializeConfig struct {
	ttl   time.Duration
	queue int
	wait  time.Duration
	busy  refusal
}

// WithLockTTL sets how long the lock of a request lasts if it is not renewed, from
// lock.MinTTL to lock.MaxTTL. The default is 30 s. With a locker made with
// lock.WithAutoExtend a request may take as long as that allows, and the ttl is how
// soon others go on after a crash; without, a request may take nine tenths of the
// ttl, less 2 ms.
func WithLockTTL(ttl time.Duration) SerializeOption {
	return func(c *serializeConfig) { c.ttl = ttl }
}

// WithQueueLimit sets how many requests of one key may wait in this process beside
// the one that is served. The next one is refused at once. The default is 16, which
// bounds what one client can hold open of connections and goroutines; from 0, which
// lets nobody wait, in no process, to 10,000.
func WithQueueLimit(n int) SerializeOption { return func(c *serializeConfig) { c.queue = n } }

// WithQueueWait sets how long a request waits for its turn before it is refused. The
// default is 10 s, below the time after which most clients and proxies give up; from
// 1 ms to 1 h. If the locker's own lock.WithMaxWait is shorter, that holds.
func WithQueueWait(d time.Duration) SerializeOption {
	return func(c *serializeConfig) { c.wait = d }
}

// WithLockedStatus refuses with 423 Locked (RFC 4918 section 11.3) in place of 409
// Conflict. 423 is WebDAV's word for a resource that is locked, and tells it apart
// from the handler's own conflicts; a client that does not know it takes it for 400.
func WithLockedStatus() SerializeOption {
	return func(c *serializeConfig) { c.busy = refusalLocked }
}

func configureSerialize(locker *lock.Locker, key KeyFunc, options []SerializeOption) (*serializeConfig, []string) {
	c := &serializeConfig{ttl: defaultLockTTL, queue: defaultQueue, wait: defaultQueueWait, busy: refusalBusy}
	var mistakes []string
	mistake := func(wrong bool, format string, args ...any) {
		if wrong {
			mistakes = append(mistakes, fmt.Sprintf(format, args...))
		}
	}
	mistake(locker == nil, "the locker is nil: check the error of lock.New")
	mistake(key == nil, "the key function is nil: say which requests exclude each other, such as middleware.KeyByUser")
	for i, o := range options {
		mistake(o == nil, "option %d is nil: leave it out", i+1)
		if o != nil {
			o(c)
		}
	}
	mistake(c.ttl < lock.MinTTL || c.ttl > lock.MaxTTL, "WithLockTTL(%v): must be from %v to %v; leave it out for %v", c.ttl, lock.MinTTL, lock.MaxTTL, defaultLockTTL)
	mistake(c.queue < 0 || c.queue > mostQueue, "WithQueueLimit(%d): must be from 0 to %d; leave it out for %d", c.queue, mostQueue, defaultQueue)
	mistake(c.wait < time.Millisecond || c.wait > mostQueueWait, "WithQueueWait(%v): must be from 1ms to %v; leave it out for %v, and use WithQueueLimit(0) to let nobody wait", c.wait, mostQueueWait, defaultQueueWait)
	return c, mistakes
}

// The refusals of Serialize.
var (
	refusalBusy   = encode(busyProblem(http.StatusConflict))
	refusalLocked = encode(busyProblem(http.StatusLocked))

	// Without Retry-After: nobody knows what was done.
	refusalOutlived = encode(Problem{
		Status: http.StatusServiceUnavailable,
		Detail: "The request took longer than it may. It may have been carried out, or in part.",
	})
)

func busyProblem(status int) Problem {
	return Problem{Status: status, Detail: "Another request is being served that excludes this one. Try again shortly."}
}
