package middleware

// AppendEvent writes an event as it goes over the wire.
var AppendEvent = appendEvent
