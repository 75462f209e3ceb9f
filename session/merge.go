package session

import (
	"maps"
	"reflect"
	"time"
)

// contents are what a session holds.
type contents struct {
	deadline time.Time
	values   map[string]any
}

// merge returns theirs with all that mine has changed since base: a change by one
// request to one key does not undo that of another to a different one. Where both
// changed the same key, mine is the later one and wins.
func merge(base, mine, theirs contents) contents {
	out := contents{deadline: theirs.deadline, values: maps.Clone(theirs.values)}
	if !mine.deadline.Equal(base.deadline) {
		out.deadline = mine.deadline
	}
	for key, v := range mine.values {
		if was, ok := base.values[key]; !ok || !same(was, v) {
			out.values[key] = v
		}
	}
	for key := range base.values {
		if _, kept := mine.values[key]; !kept {
			delete(out.values, key)
		}
	}
	return out
}

// equal reports whether a and b hold the same.
func equal(a, b contents) bool {
	return a.deadline.Equal(b.deadline) && maps.EqualFunc(a.values, b.values, same)
}

// same compares two values that come out of a codec.
func same(a, b any) bool {
	if t, ok := a.(time.Time); ok {
		u, ok := b.(time.Time)
		return ok && t.Equal(u)
	}
	return reflect.DeepEqual(a, b)
}
