package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// Refund takes back one admission of key: exactly that which ticket stands for,
// at most once, whichever process asks. It also releases the request's place
// under AtOnce. The limiter must count the same usage as that which admitted.
//
// It reports whether there was something to take back: not once the admission has
// left the longest window or was refunded before, nor when ticket is empty. Of a
// key that is kept in batches (see WithExact), and of a Smooth limit alone, only
// the latest admissions can be told apart, at least 32.
//
// It costs one round trip. When Redis is silent the error is of kind
// ErrUnavailable, and the request may stay counted; what this process admitted by
// itself is taken back without Redis. Other errors: ErrEmptyKey, ErrTicket, and
// those of Allow.
func (l *Limiter) Refund(ctx context.Context, key string, ticket Ticket) (bool, error) {
	t, err := l.present(key, ticket)
	if err != nil || ticket == "" {
		return false, err
	}
	base := l.base(key)
	if l.deny != nil {
		defer l.deny.forget(l.deny.mark(key))
	}
	if l.local != nil && t.local && l.local.refund(base, t) {
		if l.features&hasFlight != 0 {
			l.places.lose(base, t.id, l.watch.now())
		}
		if l.conn.Refuses(ctx, base) == nil {
			// Redis may have counted it, too, and not been heard.
			_, _ = l.takeBack(ctx, base, t)
		}
		return true, nil
	}
	if l.local != nil {
		l.local.release(base, t.id)
	}
	return l.takeBack(ctx, base, t)
}

// takeBack has Redis take back what t stands for.
func (l *Limiter) takeBack(ctx context.Context, base string, t ticket) (bool, error) {
	if l.noScripts.Load() {
		return l.refundByMulti(ctx, base, t)
	}
	instant := any(t.at)
	if t.local {
		instant = "-inf" // written back since, at an instant of Redis's
	}
	args := []any{t.id, t.cost, instant, l.retention.Microseconds()}
	for _, limit := range l.limits {
		if limit.kind == Smooth {
			args = append(args, limit.window.Microseconds(), limit.requests)
		}
	}
	cmd := l.scripts.refund.On(l.features.keys(base), args...)
	if err := l.conn.Exec(ctx, cmd); err != nil {
		return false, wrap(ctx, "refund", err)
	}
	return cmd.Int() == 1, nil
}

// Release ends the request that ticket stands for, under a limit of AtOnce: its
// place is free. Without such a limit, or with an empty ticket, it does nothing.
//
// It costs one round trip. When Redis is silent the error is of kind
// ErrUnavailable, and the place is free when its lease ends. Other errors:
// ErrEmptyKey, ErrTicket, and those of Allow.
func (l *Limiter) Release(ctx context.Context, key string, ticket Ticket) error {
	t, err := l.present(key, ticket)
	if err != nil || ticket == "" || l.features&hasFlight == 0 {
		return err
	}
	base := l.base(key)
	if l.local != nil {
		l.local.release(base, t.id)
	}
	if t.local {
		// Should Redis have admitted it, too, and not been heard, that may come yet.
		l.places.lose(base, t.id, l.watch.now())
	}
	return wrap(ctx, "release", l.conn.Exec(ctx, place{base: base, id: t.id}.release()))
}

// Renew begins the lease of ticket's request anew, under a limit of AtOnce. It
// reports false when the lease had ended and others have taken the place; the
// request is then one too many. Without such a limit, or with an empty ticket, it
// reports true and does nothing.
//
// It costs one round trip. When Redis is silent the error is of kind
// ErrUnavailable, and the lease is what it was. Other errors: ErrEmptyKey,
// ErrTicket, and those of Allow.
func (l *Limiter) Renew(ctx context.Context, key string, ticket Ticket) (bool, error) {
	t, err := l.present(key, ticket)
	if err != nil || ticket == "" || l.features&hasFlight == 0 {
		return err == nil, err
	}
	limit := l.limits[len(l.limits)-1] // AtOnce comes last
	base := l.base(key)
	flight := hasFlight.keys(base)[0]
	if l.local != nil {
		l.local.renew(base, t.id, limit.window)
	}
	cmd := renew.Cmd(flight, t.id, limit.window.Microseconds(), limit.requests)
	if err := l.conn.Exec(ctx, cmd); err != nil {
		return false, wrap(ctx, "renew", err)
	}
	return cmd.Int() == 1, nil
}

// Reset forgets all that was counted of key, and lifts its ban. Other processes
// that remember a denial do so for WithDenyCache's time, by default 1 s.
//
// It costs one round trip. When Redis is silent the error is of kind
// ErrUnavailable. Other errors: ErrEmptyKey, and those of Allow.
func (l *Limiter) Reset(ctx context.Context, key string) error {
	if key == "" {
		return ErrEmptyKey
	}
	base := l.base(key)
	l.forget(key, base)
	args := []any{"del"}
	for _, k := range append((hasLog | hasSmooth | hasFlight | hasBan).keys(base), base+":multi") {
		args = append(args, k)
	}
	err := l.conn.Exec(ctx, rdb.NewCmd(base, args...).Replayable())
	l.forget(key, base) // also what was noted meanwhile
	return wrap(ctx, "reset", err)
}

// Ban refuses key for a time from 1 ms to 366 days, whatever it has used. The
// limiter must have the option WithBan, else the error is of kind ErrConfig. Other
// processes that ask Redis know at once; Reset lifts it.
//
// It costs one round trip. When Redis is silent the error is of kind
// ErrUnavailable. Other errors: ErrEmptyKey, and those of Allow.
func (l *Limiter) Ban(ctx context.Context, key string, lasting time.Duration) error {
	if key == "" {
		return ErrEmptyKey
	}
	var mistakes []error
	if l.ban == nil {
		mistakes = append(mistakes, errors.New("the limiter looks for no bans: give New the option WithBan"))
	}
	if lasting < minWindow || lasting > maxWindow {
		mistakes = append(mistakes, fmt.Errorf("the time of %v must be from %v to %v", lasting, minWindow, maxWindow))
	}
	if err := rdb.Misconfigured("Limiter.Ban", mistakes...); err != nil {
		return err
	}
	cmd := forbid.Cmd(l.base(key)+":ban", lasting.Microseconds())
	return wrap(ctx, "ban", l.conn.Exec(ctx, cmd))
}

// forget drops what this process remembers of key.
func (l *Limiter) forget(key, base string) {
	if l.deny != nil {
		l.deny.forget(l.deny.mark(key))
	}
	if l.local != nil {
		l.local.forget(base)
	}
}

// present checks what is handed in with a ticket.
func (l *Limiter) present(key string, t Ticket) (ticket, error) {
	switch {
	case key == "":
		return ticket{}, ErrEmptyKey
	case t == "":
		return ticket{}, nil
	}
	return t.open()
}

// wrap names what failed. The caller's own end passes as it is.
func wrap(ctx context.Context, what string, err error) error {
	if err == nil || err == ctx.Err() {
		return err
	}
	return fmt.Errorf("ratelimit: %s: %w", what, err)
}
