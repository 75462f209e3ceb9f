package session

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
)

// label is what the index keeps for us with a session. With encryption it is sealed.
type label struct {
	Name   string `json:"n"`
	IP     string `json:"ip,omitempty"`
	Device string `json:"ua,omitempty"`
}

const (
	maxIP     = 64
	maxDevice = 256
)

func (m *Manager) label(v *Visit, b binding, name string) []byte {
	l := label{Name: name}
	if r := v.request; r != nil {
		l.IP, l.Device = cut(m.ipOf(r), maxIP), cut(m.deviceOf(r), maxDevice)
	}
	text, _ := json.Marshal(l) // strings only
	if m.ring == nil {
		return text
	}
	sealed, err := m.ring.seal(text, labelName(b.tag, b.id))
	if err != nil {
		return nil // no entropy: the session then has no label, which is shown as such
	}
	return sealed
}

// labelOf reads a label; one that cannot be read is empty.
func (m *Manager) labelOf(tag string, e entry) (l label) {
	text := e.blob
	if m.ring != nil && !(m.plainData && !isSealed(string(text))) {
		var err error
		if text, err = m.ring.open(text, labelName(tag, e.id)); err != nil {
			return label{}
		}
	}
	if json.Unmarshal(text, &l) != nil {
		return label{}
	}
	return l
}

func labelName(tag, id string) string { return "session-user:" + tag + ":" + id }

func (m *Manager) ipOf(r *http.Request) string {
	if m.clientIP != nil {
		return m.clientIP(r)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func (m *Manager) deviceOf(r *http.Request) string {
	if m.device != nil {
		return m.device(r)
	}
	return r.UserAgent()
}

// cut is at most n bytes of s, as valid text.
func cut(s string, n int) string {
	return strings.ToValidUTF8(s[:min(len(s), n)], "")
}
