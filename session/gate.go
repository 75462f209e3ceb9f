package session

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"
)

// gate is what scs is given for a store. scs calls it with the context of the visit,
// and so it knows what the request has loaded: a write is made over that, and over
// nothing else.
//
// It hashes tokens itself, where scs would do so before: to it alone a token also
// says to whom its session is bound.
type gate struct{ m *Manager }

// FindCtx is asked for a visit's data, which are there already, and by scs's
// MergeSession.
func (g *gate) FindCtx(ctx context.Context, token string) (data []byte, ok bool, err error) {
	if l, is := ctx.Value(loadingKey{}).(*loading); is {
		return l.data, l.data != nil, nil
	}
	f, _, err := g.m.find(ctx, token)
	return f.data, err == nil && f.kind == live, err
}

// CommitCtx is asked to store what a visit has changed, by Visit.Commit, or by a
// handler that calls scs's Commit itself.
func (g *gate) CommitCtx(ctx context.Context, token string, data []byte, expiry time.Time) error {
	if c, is := ctx.Value(capturingKey{}).(*capturing); is {
		c.data = data
		return nil
	}
	m, life := g.m, min(time.Until(expiry), g.m.idle)
	if err := m.fits(data); err != nil {
		return err
	}
	v := m.visitOf(ctx)
	if v == nil {
		return g.put(ctx, token, data, life)
	}
	ctx = v.lasting()
	h := v.record.get()
	var err error
	switch {
	case h.over:
		return ErrEnded
	case h.token == "":
		return v.begin(ctx, token, data, life)
	case h.token == token:
		err = v.update(ctx, data, min(time.Until(expiry), h.idle))
	default:
		err = v.rotate(ctx, token, data, rotated, min(time.Until(expiry), h.idle))
	}
	if err == nil && v.record.get().over {
		return ErrEnded
	}
	return err
}

// put is a commit outside of any visit, by an scs.SessionManager used without its
// Manager. Nobody knows what it has loaded, but that it must not bring back the dead.
func (g *gate) put(ctx context.Context, token string, data []byte, life time.Duration) error {
	if life < time.Millisecond {
		return g.DeleteCtx(ctx, token)
	}
	ok, err := g.m.store.put(ctx, g.m.name(token), data, life)
	if err == nil && !ok {
		err = ErrEnded
	}
	return err
}

// DeleteCtx is asked to end a session: the visit's own by Destroy, and another one by
// MergeSession. When RenewToken asks, the old session must first be written under its
// new token: Visit.Commit ends it.
func (g *gate) DeleteCtx(ctx context.Context, token string) error {
	m := g.m
	v := m.visitOf(ctx)
	if v == nil {
		return m.end(ctx, m.name(token), bindingOf(token))
	}
	ctx = v.lasting() // a logout must not depend on whether the visitor waits for it
	switch calledBy("RenewToken", "MergeSession") {
	case "RenewToken":
		return nil
	case "MergeSession":
		return m.end(ctx, m.name(token), bindingOf(token))
	}
	if names := v.record.unfit(); len(names) > 0 {
		// Another version of the program may well be able to read it.
		if err := m.store.mark(ctx, names, markOf(ended, newNonce())); err != nil {
			return err
		}
	}
	h := v.record.get()
	if h.token == "" {
		return nil // nothing of it was stored
	}
	if err := v.end(ctx); err != nil {
		return err
	}
	v.record.release()
	m.tell(v, Event{Kind: Ended, User: h.user, ID: h.binding.id})
	return nil
}

// end ends the session that the visit holds, also where it has moved to meanwhile.
func (v *Visit) end(ctx context.Context) error {
	m := v.manager
	for range maxConflicts {
		h := v.record.get()
		ok, now, err := m.store.swap(ctx, h.name, h.found.stored, value{mark: markOf(ended, newNonce()), life: m.grace})
		if err != nil {
			return err
		}
		if !ok && v.hidden(h, now) {
			return errHidden
		}
		if !ok && now.kind != live && now.kind != moved { // over already
			ok = true
		}
		if !ok {
			_, err = v.meet(ctx, now)
		}
		switch {
		case err != nil && !errors.Is(err, ErrEnded):
			return err
		case ok || err != nil:
			if b := h.binding; b.bound() {
				_, _, err := m.index.remove(ctx, b.tag, b.id)
				return m.wrap(ctx, "end", err)
			}
			return nil
		}
	}
	return errContended
}

// errHidden is a logout's, of a session that is not where it was.
var errHidden = fmt.Errorf("session: end: %w: its token may have been renewed meanwhile: log out with the one that the browser has now", ErrUnavailable)

// hidden reports whether a session that is not where it was may live on under a
// token that this visit cannot know, as the mark that leads there is gone, or it does
// not know its own: see [Manager.Iterate]. A user's session is ended in the index,
// whatever its token.
func (v *Visit) hidden(h held, now found) bool {
	switch {
	case h.binding.bound():
		return false
	case now.kind == moved:
		return !isToken(h.real)
	}
	return now.kind == absent && v.manager.renewal > 0 && time.Since(v.began) >= v.manager.grace
}

// calledBy tells which of scs's methods is calling. It takes a microsecond, and is
// asked at logins and logouts only. Should scs rename them, RenewToken ends the old
// session before the new one is stored.
func calledBy(methods ...string) string {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		frame, more := frames.Next()
		for _, m := range methods {
			if strings.HasSuffix(frame.Function, "/scs/v2.(*SessionManager)."+m) {
				return m
			}
		}
		if !more {
			return ""
		}
	}
}

func (g *gate) Find(token string) ([]byte, bool, error) {
	return g.FindCtx(context.Background(), token)
}

func (g *gate) Commit(token string, data []byte, expiry time.Time) error {
	return g.CommitCtx(context.Background(), token, data, expiry)
}

func (g *gate) Delete(token string) error { return g.DeleteCtx(context.Background(), token) }
