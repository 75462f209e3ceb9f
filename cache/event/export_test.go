package event

import "time"

// What the fuzz tests see of the package's inside.

// Seal makes a whole message, as lua/publish.lua does.
func Seal(id, key string, data []byte) string {
	head, tail := seal(id, key, data)
	return head + "1700000000000001" + tail
}

// Unseal takes a message apart.
func Unseal(payload string) (id, key string, at time.Time, body string, err error) {
	e, body, err := unseal(payload)
	return e.id, e.key, e.time, body, err
}
