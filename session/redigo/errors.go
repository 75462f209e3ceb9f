package redigo

import (
	"errors"
	"fmt"

	redigo "github.com/gomodule/redigo/redis"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
)

var (
	// ErrConfig is the kind of the error that [Pool] panics with.
	ErrConfig = rdb.ErrConfig

	// ErrUnavailable says that Redis gave no usable answer within the budget. A
	// command that got none may have run, or run yet.
	ErrUnavailable = rdb.ErrUnavailable

	// ErrCorrupt says that a key holds another type than the command is for.
	ErrCorrupt = rdb.ErrCorrupt
)

// replied is an error reply that also has a kind: WRONGTYPE is ErrCorrupt; LOADING,
// READONLY, OOM and their like are ErrUnavailable. Its text is the server's alone, as
// with redigo.
type replied struct {
	reply redigo.Error
	kind  error
}

func (e *replied) Error() string   { return string(e.reply) }
func (e *replied) Unwrap() []error { return []error{e.reply, e.kind} }

// failureOf makes redigo's error of rdb's. answered is true for an error reply: then
// the error is a redigo.Error, or has one inside and a kind.
func failureOf(err error) (_ error, answered bool) {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return fmt.Errorf("redigo: %w", err), false
	}
	e := redigo.Error(reply.Error())
	if errors.Is(err, rdb.ErrUnavailable) || errors.Is(err, rdb.ErrCorrupt) {
		return &replied{e, err}, true
	}
	return e, true
}
