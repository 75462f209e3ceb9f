package middleware

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"time"
)

// The wire format, of WHATWG HTML section 9.2.5: lines of a field and its value, ended
// by CR, LF or both; an empty line dispatches.

// resyncEvent is the name of the event that says that others may be missing.
const resyncEvent = "resync"

var errField = errors.New("an event's name or id with CR, LF or NUL")

// appendEvent appends an event. An empty id leaves the client's as it is; an empty
// name is that of a message. Of data the client gets the same lines, ended by LF.
// Whatever it holds, it stays data. A name or an id that would not stay one (or, with a
// NUL, would be ignored) is errField, and nothing is appended.
func appendEvent(b []byte, id, name string, data []byte) ([]byte, error) {
	if !fitsField(id) || !fitsField(name) {
		return b, errField
	}
	if id != "" {
		b = appendField(b, "id: ", id)
	}
	if name != "" {
		b = appendField(b, "event: ", name)
	}
	for {
		// The space is part of the format: a client drops one, and only one.
		b = append(b, "data: "...)
		end := bytes.IndexAny(data, "\r\n")
		if end < 0 {
			break
		}
		b = append(b, data[:end]...)
		b = append(b, '\n')
		if data[end] == '\r' && end+1 < len(data) && data[end+1] == '\n' {
			end++
		}
		data = data[end+1:]
	}
	b = append(b, data...)
	return append(b, "\n\n"...), nil
}

// appendID appends what moves a client's id on, and dispatches nothing: there is no
// data. id is one of ours.
func appendID(b []byte, id string) []byte {
	return append(appendField(b, "id: ", id), '\n')
}

// appendRetry appends after which time a client is to come back.
func appendRetry(b []byte, wait time.Duration) []byte {
	b = append(b, "retry: "...)
	b = strconv.AppendInt(b, wait.Milliseconds(), 10)
	return append(b, "\n\n"...)
}

func appendField(b []byte, field, value string) []byte {
	b = append(b, field...)
	b = append(b, value...)
	return append(b, '\n')
}

func fitsField(value string) bool { return !strings.ContainsAny(value, "\r\n\x00") }
