package session

import (
	"errors"
)

// rebase is what to write for data, which scs has made of what was loaded and what
// the handler changed; unchanged if that is nothing.
func (m *Manager) rebase(h held, data []byte) (unchanged bool, out []byte, err error) {
	// gob puts a map's keys in any order, but always takes the same room for them.
	if len(data) != len(h.base) && !h.behind() {
		return false, data, nil
	}
	base, err := m.loaded(h)
	if err != nil {
		return false, nil, err
	}
	mine, err := m.contents(data)
	if err != nil {
		return false, nil, err
	}
	if equal(base, mine) {
		return true, data, nil
	}
	out, err = m.upToDate(h, data)
	return false, out, err
}

// upToDate is data with what others have stored that scs's values do not show.
func (m *Manager) upToDate(h held, data []byte) ([]byte, error) {
	if !h.behind() {
		return data, nil
	}
	base, err1 := m.loaded(h)
	mine, err2 := m.contents(data)
	theirs, err3 := m.contents(h.found.data)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	return m.encode(merge(base, mine, theirs))
}

// loaded is what the visit's own changes count from.
func (m *Manager) loaded(h held) (contents, error) {
	base, err := m.contents(h.base)
	if err != nil {
		return base, err
	}
	for key, v := range h.updated {
		if v == nil {
			delete(base.values, key)
		} else {
			base.values[key] = v
		}
	}
	return base, nil
}

// mergeData is merge on what the codec has made of it.
func (m *Manager) mergeData(base, mine, theirs []byte) ([]byte, error) {
	b, err1 := m.contents(base)
	n, err2 := m.contents(mine)
	t, err3 := m.contents(theirs)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	return m.encode(merge(b, n, t))
}

func (m *Manager) contents(data []byte) (contents, error) {
	deadline, values, err := m.Codec.Decode(data)
	return contents{deadline, values}, err
}

func (m *Manager) encode(c contents) ([]byte, error) {
	data, err := m.Codec.Encode(c.deadline, c.values)
	if err != nil {
		return nil, err
	}
	return data, m.fits(data)
}
