package middleware

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/go-weir/weir/internal/rdb"
)

// keptAnswer is an answer as the store has it.
type keptAnswer struct {
	status int
	noted  bool // only that there was one; status is 0 if it had none
	fields string
	body   string
}

// answerVersion is the first byte of a kept answer.
const answerVersion = 1

var errAnswer = fmt.Errorf("%w: the outcome is not an answer of this version", rdb.ErrCorrupt)

// encodeAnswer writes
//
//	version, 0, status, number of fields, { name, number of values × 2 + added, { value } },
//	body
//
// with all numbers as uvarints and strings behind their length. That fields were added
// says that middlewares outside had set some of the same name.
func encodeAnswer(status int, fields map[string]storedField, body []byte) []byte {
	b := append(make([]byte, 0, len(body)+512), answerVersion, 0)
	b = binary.AppendUvarint(b, uint64(status))
	b = binary.AppendUvarint(b, uint64(len(fields)))
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f := fields[name]
		n := uint64(len(f.values)) << 1
		if f.added {
			n |= 1
		}
		b = binary.AppendUvarint(appendString(b, name), n)
		for _, v := range f.values {
			b = appendString(b, v)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(body)))
	return append(b, body...)
}

// encodeNote writes version, 1, status.
func encodeNote(status int) []byte {
	return binary.AppendUvarint([]byte{answerVersion, 1}, uint64(status))
}

// decodeAnswer reads what encodeAnswer or encodeNote wrote, all of it. The result shares
// data's memory.
func decodeAnswer(data string) (keptAnswer, error) {
	r := entryReader{rest: data}
	version, kind := r.byte(), r.byte()
	a := keptAnswer{noted: kind == 1, status: int(r.number(599))}
	if !a.noted {
		block := r.rest
		for n := r.length(); n > 0 && !r.failed; n-- {
			r.string()
			for v := r.length() >> 1; v > 0 && !r.failed; v-- {
				r.string()
			}
		}
		a.fields = block[:len(block)-len(r.rest)]
		a.body = r.string()
	}
	if r.failed || r.rest != "" || version != answerVersion || kind > 1 || !a.noted && a.status < 200 {
		return keptAnswer{}, errAnswer
	}
	return a, nil
}

// replay answers with a once more.
func (a *keptAnswer) replay(w http.ResponseWriter) {
	h := w.Header()
	r := entryReader{rest: a.fields}
	for n := r.length(); n > 0; n-- {
		name, count := r.string(), r.length()
		var values []string
		if count&1 != 0 {
			values = slices.Clone(h[name])
		}
		for range count >> 1 {
			values = append(values, r.string())
		}
		h[name] = values // nil if the handler wished for none: net/http looks for the key
	}
	h["Idempotent-Replayed"] = []string{"true"}
	w.WriteHeader(a.status)
	if hasBody(a.status) && a.body != "" {
		writeText(w, a.body)
	}
}

// hasBody reports whether an answer of that status may have one (RFC 9110 section 6.4.1).
func hasBody(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}
