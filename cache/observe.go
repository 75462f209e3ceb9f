package cache

import "context"

// EventKind says what became of a read or a load.
type EventKind int

const (
	// NearHit: the near tier had a fresh value.
	NearHit EventKind = iota + 1
	// Hit: Redis had a fresh value.
	Hit
	// Miss: neither had one.
	Miss
	// Loaded: the source was asked, and answered with a value or ErrNotFound.
	Loaded
	// LoadFailed: the source was asked, and Err is its error.
	LoadFailed
	// StaleServed: what was stale has stood in; Err is why, nil if the load was slow, or
	// another one has failed within the last second.
	StaleServed
	// NotStored: what was loaded was not stored; Err is why, nil if an invalidation
	// came meanwhile.
	NotStored
	// Damaged: an entry did not decode, and counts as a miss; Err is of kind ErrCorrupt.
	Damaged
	// Unavailable: Redis was silent; Err is of kind ErrUnavailable.
	Unavailable
	// NearCleared: a part of the near tier was dropped, as messages were missed or may
	// have been. It belongs to no view and key.
	NearCleared
)

var eventNames = [...]string{
	NearHit: "near hit", Hit: "hit", Miss: "miss", Loaded: "loaded", LoadFailed: "load failed",
	StaleServed: "stale served", NotStored: "not stored", Damaged: "damaged",
	Unavailable: "unavailable", NearCleared: "near cleared",
}

// String names the kind in lower case, as "near hit".
func (k EventKind) String() string {
	if k < NearHit || int(k) >= len(eventNames) {
		return "unknown"
	}
	return eventNames[k]
}

// Event is what an observer is told: see [WithObserver].
type Event struct {
	Kind      EventKind
	View, Key string
	Err       error
}

func (s *Store) tell(ctx context.Context, kind EventKind, p *place, err error) {
	if s.observe != nil {
		s.observe(ctx, Event{kind, p.view, p.key, err})
	}
}
