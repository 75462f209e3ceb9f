package cache

import "sync"

// These bound a nameMemory to a few MiB. Longer names cost their entry a second
// round trip.
const (
	maxRemembered = 1 << 14
	maxNames      = 256 // bytes
)

// nameMemory remembers by which names the variants of entries are told apart,
// for those that have variants. It is only a guess that saves a round trip: what
// Redis says counts.
type nameMemory struct {
	mu sync.RWMutex
	m  map[string]string
}

func (n *nameMemory) get(key string) string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.m[key]
}

func (n *nameMemory) put(key, names string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if names == "" || len(names) > maxNames {
		delete(n.m, key)
		return
	}
	if n.m == nil {
		n.m = make(map[string]string)
	}
	if _, known := n.m[key]; !known && len(n.m) >= maxRemembered {
		for other := range n.m { // an arbitrary one
			delete(n.m, other)
			break
		}
	}
	n.m[key] = names
}
