package ratelimit

import (
	"errors"

	"github.com/go-weir/weir/internal/rdb"
)

var (
	// ErrConfig is the kind of every error of New and With.
	ErrConfig = rdb.ErrConfig

	// ErrUnavailable says that Redis gave no usable answer within the budget.
	// Allow returns it only under WithFailClosed; otherwise it is the cause in
	// Result.Standin.
	ErrUnavailable = rdb.ErrUnavailable

	// ErrCorrupt says that the script's reply is not one of Redis.
	ErrCorrupt = rdb.ErrCorrupt

	// ErrEmptyKey says that Allow was asked about nobody. All such callers would
	// share one limit, so it is an error and not a key.
	ErrEmptyKey = errors.New("ratelimit: empty key")

	// ErrCost says that a cost is below 0 or above 2,147,483,647.
	ErrCost = errors.New("ratelimit: invalid cost")

	// ErrTicket says that a Ticket is not one that Result.Ticket returned.
	ErrTicket = errors.New("ratelimit: invalid ticket")
)
