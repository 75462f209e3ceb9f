package session

import (
	"github.com/alexedwards/scs/v2"
)

// Finish saves what was changed after Commit. The error is ErrTooLate when that
// change needs a cookie (it began a session or renewed the token), else as
// Commit's.
func (v *Visit) Finish() error {
	if late, err := v.lateness(); err != nil || !late {
		return err
	}
	v.KeepToken()
	_, err := v.Commit()
	return err
}

// KeepToken has Commit put a periodic renewal off to another request: this one's
// cookie might not arrive.
func (v *Visit) KeepToken() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keep = true
}

func (v *Visit) lateness() (late bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	m := v.manager
	switch {
	case v.err != nil && v.optional && (v.blind == nil || m.Status(v.blind) == scs.Unmodified):
		return false, nil
	case v.err != nil || !v.late:
		return false, v.err
	case v.needsCookie():
		return true, ErrTooLate
	}
	return true, nil
}

// needsCookie reports whether saving what the handler has changed would give the
// browser another cookie. v.mu is held.
func (v *Visit) needsCookie() bool {
	m, h := v.manager, v.record.get()
	switch {
	case m.Status(v.data) != scs.Modified || h.over:
		return false
	case h.token == "":
		return m.Token(v.data) != "" || len(m.Keys(v.data)) > 0
	}
	return m.Token(v.data) != h.token || (m.Cookie.Persist || m.GetBool(v.data, rememberKey)) != v.persist
}
