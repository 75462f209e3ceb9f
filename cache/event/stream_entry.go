package event

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Positions in a stream beside the ids of its entries.
const (
	Oldest = "0" // before the oldest entry that is kept
	Newest = "$" // behind the entry that is the last one at that moment
)

// Entry is an event in a stream.
type Entry[T any] struct {
	// ID is the entry's id in Redis, such as "1700000000000-0". Later entries have
	// greater ids. It serves as the id of a server-sent event.
	ID    string
	Value T
	// Raw are the bytes that Value was decoded from. A handler must not change them:
	// they are what a dead letter keeps.
	Raw []byte
	// Err says why Raw could not be decoded, of kind ErrCorrupt; Value is then the
	// zero value. A consumer's handler never sees such an entry: see Consume.
	Err error
	// Delivery says which delivery to the group this is, from 1. It is 0 for an
	// entry that was read without a group.
	Delivery int

	number int64  // among the stream's entries; 0 if others wrote it
	group  string // unless empty, the only one that it is for
}

// Time is when the entry was published, by Redis's clock.
func (e Entry[T]) Time() time.Time {
	ms, _, _ := strings.Cut(e.ID, "-")
	n, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(n)
}

// validPosition reports whether text is an entry's id, Oldest or Newest. It also
// holds for the ids that clients send back, so it is strict.
func validPosition(text string) bool {
	if text == Oldest || text == Newest {
		return true
	}
	ms, seq, found := strings.Cut(text, "-")
	return found && isNumber(ms) && isNumber(seq)
}

// isNumber reports whether text is a 64-bit number in the form that Redis writes.
func isNumber(text string) bool {
	if text == "" || len(text) > 1 && text[0] == '0' || text[0] == '+' {
		return false
	}
	_, err := strconv.ParseUint(text, 10, 64)
	return err == nil
}

// entryOf reads an entry off Redis's reply: an id, and fields and their values.
func (s *Stream[T]) entryOf(id, fields any) (Entry[T], error) {
	e := Entry[T]{}
	var isText bool
	if e.ID, isText = id.(string); !isText {
		return e, fmt.Errorf("%w: an entry's id is a %T", ErrCorrupt, id)
	}
	list, _ := fields.([]any)
	found := false
	for i := 0; i+1 < len(list); i += 2 {
		name, _ := list[i].(string)
		value, _ := list[i+1].(string)
		switch name {
		case "n":
			e.number, _ = strconv.ParseInt(value, 10, 64)
		case "g":
			e.group = value
		case "v":
			e.Raw, found = []byte(value), true
		}
	}
	if !found {
		e.Raw = fmt.Appendf(nil, "%q", list)
		e.Err = fmt.Errorf("%w: entry %s has no field v", ErrCorrupt, e.ID)
	} else if err := s.bus.codec.Decode(e.Raw, &e.Value); err != nil {
		var zero T
		e.Value = zero
		e.Err = fmt.Errorf("%w: entry %s does not decode: %w", ErrCorrupt, e.ID, err)
	}
	return e, nil
}

// entriesOf reads what XRANGE and XREADGROUP reply.
func (s *Stream[T]) entriesOf(reply any) ([]Entry[T], error) {
	list, isList := reply.([]any)
	if !isList {
		return nil, fmt.Errorf("%w: entries are a %T", ErrCorrupt, reply)
	}
	entries := make([]Entry[T], 0, len(list))
	for _, item := range list {
		pair, _ := item.([]any)
		if len(pair) != 2 {
			return nil, fmt.Errorf("%w: an entry of %d parts", ErrCorrupt, len(pair))
		}
		e, err := s.entryOf(pair[0], pair[1])
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// textsOf reads a list of ids.
func textsOf(reply any) []string {
	list, _ := reply.([]any)
	texts := make([]string, 0, len(list))
	for _, item := range list {
		if text, ok := item.(string); ok {
			texts = append(texts, text)
		}
	}
	return texts
}
