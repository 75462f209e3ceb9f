package cache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/go-weir/weir/internal/rdb"
)

const (
	// chunkBytes is up to how long a body stands beside its entry, and how long the chunks
	// are of one that is longer.
	chunkBytes = 256 << 10

	// maxChunks bounds what one script goes through, some 1 µs for each.
	maxChunks = 1 << 14

	// chunkGrace is for how long chunks last that no entry needs yet, or any more: who
	// writes or reads them has them last on.
	chunkGrace = time.Minute
	holdEvery  = chunkGrace / 3

	// sumBytes is the length of the checksum that a chunk begins with.
	sumBytes = 4
)

// Body is what a variant has besides its Data, of any length: see [Found.Body]. A body of
// up to 256 KiB came with it; of a longer one at most the first 256 KiB did, and the rest
// is read as it is needed. A nil Body is empty. It is safe for concurrent use.
type Body struct {
	store *Store
	shard *shard
	id    string
	size  int64
	chunk int64  // the length of a chunk; 0: there is but one, which is held
	held  string // the first chunk; "" if it is still to be read
	whole bool   // all chunks were there when it was found
}

// Len is the length of the body.
func (b *Body) Len() int64 {
	if b == nil {
		return 0
	}
	return b.size
}

// Text is the body, if it is all held; ok is false if some of it is still to be read.
func (b *Body) Text() (text string, ok bool) {
	if b == nil {
		return "", true
	}
	return b.held, int64(len(b.held)) == b.size
}

// parseBody reads what an entry says of its body. first is its first chunk, if that came
// along.
func parseBody(s *Store, sh *shard, text, first string, along bool) (*Body, error) {
	if text == flagNone {
		return nil, nil
	}
	id, rest, ok1 := strings.Cut(text, ".")
	size, chunk, ok2 := strings.Cut(rest, ".")
	b := &Body{store: s, shard: sh, id: id}
	var err1, err2 error
	b.size, err1 = strconv.ParseInt(size, 10, 64)
	b.chunk, err2 = strconv.ParseInt(chunk, 10, 64)
	if !ok1 || !ok2 || err1 != nil || err2 != nil || b.size < 0 || b.chunk < 0 || b.chunk > maxMaxBytes || b.chunk > 0 && b.size == 0 {
		return nil, errForm
	}
	if b.size == 0 || !along && b.chunk > 0 {
		return b, nil
	}
	var err error
	b.held, err = b.open(0, first)
	b.whole = true
	return b, err
}

// form is what parseBody reads.
func (b *Body) form() string {
	if b == nil {
		return flagNone
	}
	return b.id + "." + strconv.FormatInt(b.size, 10) + "." + strconv.FormatInt(b.chunk, 10)
}

// kept is the body as the near tier keeps it: chunks of long ones would crowd it.
func (b *Body) kept() *Body {
	if b == nil || b.chunk == 0 || b.held == "" {
		return b
	}
	k := *b
	k.held, k.whole = "", false
	return &k
}

// near is how many bytes of it the near tier keeps.
func (b *Body) near() int {
	if b == nil || b.chunk > 0 {
		return 0
	}
	return len(b.held)
}

// bounds are where chunk i begins and ends in the body.
func (b *Body) bounds(i int) (from, end int64) {
	if b.chunk == 0 {
		return 0, b.size
	}
	return int64(i) * b.chunk, min(int64(i+1)*b.chunk, b.size)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumOf is the checksum of a chunk, which ties it to its body and its place in it.
func sumOf(id string, i int, chunk []byte) uint32 {
	buf := make([]byte, 0, 64)
	buf = binary.AppendUvarint(append(buf, id...), uint64(i))
	return crc32.Update(crc32.Checksum(buf, castagnoli), castagnoli, chunk)
}

// open returns what is in the value of chunk i, if that is what was stored.
func (b *Body) open(i int, value string) (string, error) {
	from, end := b.bounds(i)
	if int64(len(value)) != sumBytes+end-from {
		return "", fmt.Errorf("%w: chunk %d of a body: %d bytes, want %d", ErrCorrupt, i, len(value), sumBytes+end-from)
	}
	bytes := unsafe.Slice(unsafe.StringData(value), len(value)) // to read, not to copy it
	if sumOf(b.id, i, bytes[sumBytes:]) != binary.BigEndian.Uint32(bytes) {
		return "", fmt.Errorf("%w: chunk %d of a body is not what was stored", ErrCorrupt, i)
	}
	return value[sumBytes:], nil
}

// key is that of chunk i.
func (b *Body) key(i int) string { return chunkKey(b.shard, b.id, i) }

func chunkKey(sh *shard, id string, i int) string {
	return sh.base + ":c:" + id + ":" + strconv.Itoa(i)
}

// read reads chunk i, and along with it sees whether the next ones up to last are there. What
// is not what was stored is removed, so that no Find takes the body for whole.
func (b *Body) read(ctx context.Context, i, last int) (string, error) {
	key := b.key(i)
	get := rdb.NewCmd(key, "get", key).Replayable()
	cmds := []*rdb.Cmd{get}
	if last > i {
		cmds = append(cmds, b.hold(i+1, last+1, 0))
	}
	err := b.store.conn.Exec(ctx, cmds...)
	value, there := get.Text()
	switch {
	case err != nil:
	case !there || last > i && cmds[1].Int() != int64(last-i):
		return "", fmt.Errorf("cache: read a body: %w: a chunk is missing", ErrCorrupt)
	default:
		value, err = b.open(i, value)
	}
	if errors.Is(err, ErrCorrupt) {
		_ = b.store.unlink(context.WithoutCancel(ctx), []string{key}) // else the next reader does
	}
	if err != nil {
		return "", wrap(ctx, "read a body", err)
	}
	return value, nil
}

// hold has the chunks from one to before another last for d at least, and counts them.
func (b *Body) hold(from, end int, d time.Duration) *rdb.Cmd {
	return holdCmd(b.shard, b.id, from, end, d)
}

func holdCmd(sh *shard, id string, from, end int, d time.Duration) *rdb.Cmd {
	return holdScript.On([]string{sh.meta}, id, from, end, d.Milliseconds())
}

// Part is a part of a [Body], whose beginning has been read.
type Part struct {
	body      *Body
	from, end int64
	first     string // the chunk that from is in
}

// Len is how many octets the part has.
func (p *Part) Len() int64 { return max(0, p.end-p.from) }

// Open makes ready to copy the octets of a body from one to before another. What has not
// come with the entry is begun to be read, and the rest seen to be there, in one round
// trip. The error is of kind ErrCorrupt when some of it is missing or is not what was stored,
// and of kind ErrUnavailable when Redis is silent, within the budget.
func (b *Body) Open(ctx context.Context, from, end int64) (Part, error) {
	p := Part{body: b, from: from, end: end}
	if from >= end {
		return p, nil
	}
	i, last := p.chunks()
	if b.held != "" && i == 0 && (b.whole || last == 0) {
		p.first = b.held
		return p, nil
	}
	var err error
	p.first, err = b.read(ctx, i, last)
	return p, err
}

// chunks are the first and the last that a part is in.
func (p *Part) chunks() (first, last int) {
	if p.body.chunk == 0 {
		return 0, 0
	}
	return int(p.from / p.body.chunk), int((p.end - 1) / p.body.chunk)
}

// Copy writes the part to w. While it writes one chunk the next one is read: it never
// holds more than two. It ends when w takes no more, without an error.
//
// The error says that the rest could not be read: of kind ErrCorrupt when a chunk is
// missing or is not what was stored, of kind ErrUnavailable when Redis is silent, within
// the budget, or that of ctx. What was written by then is right, and not all.
func (p Part) Copy(ctx context.Context, w io.Writer) error {
	switch {
	case p.from >= p.end:
		return nil
	case p.body.chunk == 0: // apart, so that it allocates nothing
		_, _ = io.WriteString(w, p.first[p.from:p.end])
		return nil
	}
	return p.copyChunks(ctx, w)
}

func (p Part) copyChunks(ctx context.Context, w io.Writer) error {
	chunk, held := p.first, monotonic()
	for i, last := p.chunks(); ; i++ {
		var next <-chan ahead
		if i < last {
			hold := monotonic()-held > int64(holdEvery)
			if hold {
				held = monotonic()
			}
			next = p.ahead(ctx, i+1, last, hold)
		}
		from, end := p.body.bounds(i)
		if _, err := io.WriteString(w, chunk[max(p.from, from)-from:min(p.end, end)-from]); err != nil || i == last {
			return nil
		}
		a := <-next
		if a.panicked != nil {
			panic(a.panicked)
		}
		if a.err != nil {
			return a.err
		}
		chunk = a.chunk
	}
}

// ahead is a chunk that was read ahead.
type ahead struct {
	chunk    string
	err      error
	panicked any // a hook of the user's client may
}

// ahead reads chunk i while the one before it is written, and with hold has those from it to
// the last not end meanwhile. Its goroutine ends within the budget.
func (p *Part) ahead(ctx context.Context, i, last int, hold bool) <-chan ahead {
	next := make(chan ahead, 1)
	go func() {
		var a ahead
		defer func() {
			a.panicked = recover()
			next <- a
		}()
		if hold {
			// The reader is slow, and the entry may have ended since it began.
			_ = p.body.store.conn.Exec(ctx, p.body.hold(i, last+1, chunkGrace)) // they may last without
		}
		a.chunk, a.err = p.body.read(ctx, i, i)
	}()
	return next
}
