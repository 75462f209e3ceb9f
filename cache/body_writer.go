package cache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// BodyWriter takes in the body of a [Variant] while it is made: see [Store.NewBody]. It is not
// safe for concurrent use.
type BodyWriter struct {
	store *Store
	key   string // of the resource, digested
	shard *shard
	ctx   context.Context // of the writing, which outlives no Keep or Discard
	body  Body            // as it will be
	chunk []byte          // room for a sum, and the last chunk so far
	spare []byte          // another one, whose content has been stored
	sent  int             // how many chunks were given to the courier
	err   error           // why it takes no more
	*courier
}

// courier stores one chunk while the next is filled.
type courier struct {
	chunks chan []byte // to be stored; closed when there are no more
	stored chan storedChunk
	ended  chan struct{}
	flying bool // stored is still to be received from
}

type storedChunk struct {
	chunk []byte
	err   error
}

var errLongBody = errors.New("cache: the body is longer than WithMaxBody")

// NewBody returns a writer for the body of a variant of the resource of key. What it is
// given goes to Redis in chunks of 256 KiB, unless it is no longer than one, and is no part
// of an entry before Keep: until then it lasts for a minute, and on while the writer has it last.
// It holds two chunks at most. It is to be ended by [Found.Keep] or Discard. It does no I/O and
// starts no goroutine before it is given more than a chunk. ctx's end is not its own.
func (s *Store) NewBody(ctx context.Context, key string) *BodyWriter {
	p := s.resource(key)
	return &BodyWriter{
		store: s, key: p.key, shard: p.shard, ctx: context.WithoutCancel(ctx),
		body: Body{store: s, shard: p.shard, id: newToken()},
	}
}

// Len is how much was written.
func (w *BodyWriter) Len() int64 { return w.body.size }

// Bytes are what was written, while that is no more than 256 KiB; ok is false for more. They are
// not to be changed.
func (w *BodyWriter) Bytes() (b []byte, ok bool) {
	if len(w.chunk) == 0 {
		return nil, w.sent == 0
	}
	return w.chunk[sumBytes:], w.sent == 0
}

// Grow makes room for n bytes, which are expected.
func (w *BodyWriter) Grow(n int64) {
	if w.chunk == nil {
		w.chunk = make([]byte, sumBytes, sumBytes+min(n, chunkBytes))
	}
}

// Write takes p in. It waits for Redis, within the budget, where more than a chunk is ahead of it.
// An error says that the body cannot be kept: it is longer than WithMaxBody, or Redis
// did not confirm a chunk. Nothing is written then, now or later.
func (w *BodyWriter) Write(p []byte) (int, error) {
	if w.err == nil && w.body.size+int64(len(p)) > w.store.maxBody {
		w.err = errLongBody
	}
	taken := 0
	for w.err == nil && taken < len(p) {
		if len(w.chunk) == 0 {
			w.chunk = append(w.chunk[:0], make([]byte, sumBytes)...)
		}
		if len(w.chunk) == sumBytes+chunkBytes {
			w.err = w.send()
			continue
		}
		n := min(len(p)-taken, sumBytes+chunkBytes-len(w.chunk))
		w.chunk = append(w.chunk, p[taken:taken+n]...)
		taken += n
		w.body.size += int64(n)
	}
	return taken, w.err
}

// seal puts its checksum before the chunk.
func (w *BodyWriter) seal() {
	binary.BigEndian.PutUint32(w.chunk, sumOf(w.body.id, w.sent, w.chunk[sumBytes:]))
}

// send gives the chunk to the courier, when that has stored the one before.
func (w *BodyWriter) send() error {
	if w.courier == nil {
		w.body.chunk = chunkBytes
		w.courier = &courier{chunks: make(chan []byte, 1), stored: make(chan storedChunk, 1), ended: make(chan struct{})}
		go w.courier.run(w.ctx, w.store.conn, w.shard, w.body.id)
	}
	if err := w.settle(); err != nil {
		return err
	}
	w.seal()
	w.chunks <- w.chunk
	w.flying = true
	w.sent++
	w.chunk, w.spare = w.spare, nil
	return nil
}

// settle waits until the chunk under way is stored.
func (w *BodyWriter) settle() error {
	if w.courier == nil || !w.flying {
		return nil
	}
	w.flying = false
	s := <-w.stored
	if s.err != nil {
		return s.err // and the chunk is not used again: a write that was left behind may read it yet
	}
	w.spare = s.chunk[:0]
	return nil
}

// run stores chunks, and has those that it has stored last on, until there are no more or one
// could not be stored.
func (c *courier) run(ctx context.Context, conn *rdb.Conn, sh *shard, id string) {
	defer close(c.ended)
	ticker := time.NewTicker(holdEvery)
	defer ticker.Stop()
	for n := 0; ; {
		select {
		case chunk, more := <-c.chunks:
			if !more {
				return
			}
			key := chunkKey(sh, id, n)
			err := guarded(ctx, conn, rdb.NewCmd(key, "set", key, chunk, "px", chunkGrace.Milliseconds()).Replayable())
			c.stored <- storedChunk{chunk, err}
			n++
		case <-ticker.C:
			_ = guarded(ctx, conn, holdCmd(sh, id, 0, n, chunkGrace)) // Keep sees what is missing
		}
	}
}

// guarded is Exec where a panic of a hook of the user's client would end the process.
func guarded(ctx context.Context, conn *rdb.Conn, cmd *rdb.Cmd) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: a hook of the client panicked: %v", ErrUnavailable, p)
		}
	}()
	return conn.Exec(ctx, cmd)
}

// finish stores what is left of a body in chunks, and ends the courier.
func (w *BodyWriter) finish() error {
	if w.courier == nil {
		if len(w.chunk) > 0 {
			w.seal()
		}
		return w.err
	}
	for w.err == nil && len(w.chunk) > 0 {
		w.err = w.send()
	}
	if err := w.settle(); w.err == nil {
		w.err = err
	}
	w.end()
	return w.err
}

func (w *BodyWriter) end() {
	if w.courier != nil {
		close(w.chunks)
		<-w.ended
		w.courier = nil
	}
}

// Discard ends the writing, and removes what has been written, unless Redis was
// silent; then it ends by itself within a minute. It does nothing after Keep, and waits
// for Redis for two budgets at most.
func (w *BodyWriter) Discard() {
	silent := errors.Is(w.settle(), ErrUnavailable) || errors.Is(w.err, ErrUnavailable)
	w.end()
	if w.sent > 0 && !silent {
		keys := make([]string, w.sent)
		for i := range keys {
			keys[i] = chunkKey(w.shard, w.body.id, i)
		}
		_ = w.store.unlink(w.ctx, keys) // else they end by themselves
	}
	w.forget()
}

// forget ends the writer's part in what it has written.
func (w *BodyWriter) forget() {
	w.sent, w.chunk, w.spare = 0, nil, nil
	if w.err == nil {
		w.err = errEnded
	}
}

var errEnded = errors.New("cache: the body has ended")
