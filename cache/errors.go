package cache

import (
	"github.com/go-weir/weir/internal/rdb"
)

var (
	// ErrConfig is the kind of every error of New, and of arguments that cannot
	// be used.
	ErrConfig = rdb.ErrConfig

	// ErrUnavailable says that Redis gave no usable answer within the budget.
	ErrUnavailable = rdb.ErrUnavailable

	// ErrCorrupt says that what is stored is not what a Store writes.
	ErrCorrupt = rdb.ErrCorrupt
)
