package lock

import (
	"context"
	"time"
)

// Holder is who holds a lock, for whoever looks at it.
type Holder struct {
	// Token is the lease's fencing token.
	Token int64
	// Since is when the lock was taken, by Redis's clock.
	Since time.Time
	// Left is how long the lock lasts if it is not extended. It is below 0 if
	// somebody has taken the key's lifetime off; the next Acquire gives it one.
	Left time.Duration
	// Label is what the holder calls itself; see WithLabel.
	Label string
}

// Holder tells who holds the lock; ok is false if it is free. It writes nothing, and
// what it tells may be over when it does: to decide by it is a mistake that Acquire
// is there to avoid. Of a Redlock it is whom a majority names.
//
// Errors: ErrEmptyKey; ErrUnavailable; ErrCorrupt; ctx.Err() when ctx ends first.
func (l *Locker) Holder(ctx context.Context, key string) (h Holder, ok bool, err error) {
	if key == "" {
		return Holder{}, false, edge("holder", ErrEmptyKey)
	}
	h, ok, err = l.store.holder(ctx, l.redisKey(key))
	return h, ok, edge("holder", err)
}

func (s *single) holder(ctx context.Context, lock string) (h Holder, ok bool, err error) {
	c := &claim{lock: lock}
	c.begin()
	cmd := s.scripts.holder.On(c.keys, "")
	if err := s.conn.Exec(ctx, cmd); err != nil {
		return Holder{}, false, err
	}
	word, values, err := parse(cmd)
	if err != nil || word != "taken" || len(values) != 3 {
		return Holder{}, false, err
	}
	label, _ := cmd.Slice()[4].(string)
	return Holder{
		Token: values[1],
		Since: time.UnixMicro(values[2]),
		Left:  time.Duration(values[0]) * time.Millisecond,
		Label: label,
	}, true, nil
}
