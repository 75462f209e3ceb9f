package quota

import (
	"errors"

	"github.com/go-weir/weir/internal/rdb"
)

var (
	// ErrConfig is the kind of every error of New.
	ErrConfig = rdb.ErrConfig

	// ErrUnavailable says that Redis gave no usable answer within the budget.
	// Whether the request was carried out is then open: repeat it with the
	// Receipt's ID while that is remembered, a generated one for 1 minute, and it
	// is carried out once in all. See the package's page.
	ErrUnavailable = rdb.ErrUnavailable

	// ErrCorrupt says that Redis holds something under the account's key that
	// this package did not write, or that its numbers do not add up. Nothing was
	// changed, and nothing will be until somebody has looked at it: money is not
	// healed by guessing.
	ErrCorrupt = rdb.ErrCorrupt

	// ErrAmount says that an amount is below 1 or above MaxAmount, or a hold's
	// time outside of 1 ms to 366 days. Redis was not asked.
	ErrAmount = errors.New("amount out of range")

	// ErrEmptyAccount says that no account was named. All such callers would
	// share one balance, so it is an error and not an account.
	ErrEmptyAccount = errors.New("empty account")

	// ErrEmptyHold says that Commit or Cancel was given no hold.
	ErrEmptyHold = errors.New("empty hold")

	// ErrReused says that the request id was used before, for another operation
	// or another amount. Nothing was changed. An id names one request: make a new
	// one for a new request.
	ErrReused = errors.New("request id used before for another request")

	// ErrFull says that the account has as many open holds, or remembers as many
	// requests, as WithMaxHolds and WithMaxIDs allow. Nothing was changed. No id
	// is forgotten early to make room: its request could then be counted twice.
	ErrFull = errors.New("account is full")
)
