package middleware

import (
	"fmt"
	"net/http"
)

// The types of Idempotency's problems: the draft's page, and those of what the store
// says of a key.
const (
	problemIdempotencyDraft  = "https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/"
	problemIdempotencyStates = "https://pkg.go.dev/github.com/go-weir/weir/cache/idempotency"
)

var (
	refusalKeyMissing = encode(Problem{
		Type:   problemIdempotencyDraft,
		Title:  "Idempotency-Key is missing",
		Status: http.StatusBadRequest,
		Detail: "This request needs an Idempotency-Key: a text of your choice that is the same when you repeat it, and new for each new request.",
	})
	refusalKeyMalformed = encode(Problem{
		Type:   problemIdempotencyDraft,
		Title:  "Idempotency-Key is malformed",
		Status: http.StatusBadRequest,
		Detail: "An Idempotency-Key is one line of 1 to 255 visible ASCII characters in double quotes.",
	})
	refusalOutstanding = encode(Problem{
		Type:   problemIdempotencyStates + "#Busy",
		Title:  "A request is outstanding for this Idempotency-Key",
		Status: http.StatusConflict,
		Detail: "The first request with this key is still being worked on. Repeat yours later to get its answer.",
	})
	refusalDiffers = encode(Problem{
		Type:   problemIdempotencyStates + "#Differs",
		Title:  "Idempotency-Key is already used",
		Status: http.StatusUnprocessableEntity,
		Detail: "This key was used for a request with another content. Use a new key for a new request.",
	})
	refusalInterrupted = encode(Problem{
		Type:   problemIdempotencyStates + "#Interrupted",
		Title:  "Outcome unknown",
		Status: http.StatusConflict,
		Detail: "The first request with this key was interrupted. It may or may not have been carried out, and is not carried out again.",
	})
	refusalBodyTooLarge = encode(Problem{
		Status: http.StatusRequestEntityTooLarge,
		Detail: "A request with an Idempotency-Key may not have so large a body.",
	})
	refusalBodyBroken = encode(Problem{
		Status: http.StatusBadRequest,
		Detail: "The body did not arrive whole.",
	})
)

// refusalNoted is the answer to a request that repeats one of which only a note is kept.
// status is that of the first answer, 0 if there was none.
func refusalNoted(status int) refusal {
	detail := "The first request with this key was carried out. Its answer was not kept."
	if status != 0 {
		detail = fmt.Sprintf("The first request with this key was answered with status %d. The rest of its answer was not kept.", status)
	}
	return encode(Problem{
		Type:   problemIdempotencyStates + "#Kept",
		Title:  "Answer not kept",
		Status: http.StatusConflict,
		Detail: detail,
	})
}
