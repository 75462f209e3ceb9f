package middleware

// ReadIdempotencyKey is how a request's key is read.
var ReadIdempotencyKey = requestIdempotencyKey

// ReplayedAnswer decodes a kept answer, and reports whether it is one with a body.
func ReplayedAnswer(data string) (status int, body string, noted bool, err error) {
	a, err := decodeAnswer(data)
	return a.status, a.body, a.noted, err
}

// EncodedAnswer is a kept answer.
func EncodedAnswer(status int, name, value string, body []byte) []byte {
	return encodeAnswer(status, map[string]storedField{name: {values: []string{value}}}, body)
}
