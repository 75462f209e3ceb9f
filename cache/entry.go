package cache

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// What an entry's flags say.
const (
	flagNone       = "-"
	flagAbsent     = "n" // that the source has no such thing
	flagCompressed = "z"
)

// entry is what stands under a key: see lua/data.lua for its form.
type entry struct {
	put    string // it tells this entry from those before and after
	epoch  string // the shard's, as it was stored
	stored int64  // ms of Redis TIME, as fresh
	fresh  int64
	cost   time.Duration
	flags  string // of a resource's: its body's form
	absent bool
	packed bool
	tags   []string // by their tagName
	data   string
}

var errForm = errors.New("its head is not of this version")

func parseEntry(text string) (e entry, err error) {
	head, data, found := strings.Cut(text, "\n")
	var fields [9]string
	last := len(fields) - 1
	for i := range last {
		var more bool
		fields[i], head, more = strings.Cut(head, " ")
		found = found && more
	}
	fields[last] = head
	if !found || fields[0] != "w1" || strings.Contains(head, " ") {
		return entry{}, errForm
	}
	e.put, e.epoch, e.data = fields[2], fields[3], data
	var err1, err2, err3 error
	var cost int64
	e.stored, err1 = strconv.ParseInt(fields[4], 10, 64)
	e.fresh, err2 = strconv.ParseInt(fields[5], 10, 64)
	cost, err3 = strconv.ParseInt(fields[6], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return entry{}, errForm
	}
	e.cost = time.Duration(cost) * time.Millisecond
	e.flags = fields[7]
	e.absent = strings.Contains(fields[7], flagAbsent)
	e.packed = strings.Contains(fields[7], flagCompressed)
	if fields[8] != "" {
		e.tags = strings.Split(fields[8], ",")
	}
	return e, nil
}

// Both are safe for concurrent use, and start no goroutine for one call.
var (
	packer = sync.OnceValue(func() *zstd.Encoder {
		w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
		if err != nil {
			panic(err) // of options, which are constant
		}
		return w
	})
	unpackers sync.Map // of the most bytes to a *zstd.Decoder
)

// pack is what of data is stored, and its flag.
func pack(data []byte, from int) (stored []byte, flags string) {
	if from == 0 || len(data) < from {
		return data, flagNone
	}
	if small := packer().EncodeAll(data, nil); len(small) < len(data) {
		return small, flagCompressed
	}
	return data, flagNone
}

// unpack undoes pack; it does not unpack more than most bytes.
func unpack(data string, most int) ([]byte, error) {
	d, ok := unpackers.Load(most)
	if !ok {
		made, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(max(most, 1<<16))))
		if err != nil {
			return nil, err
		}
		d, _ = unpackers.LoadOrStore(most, made)
	}
	plain, err := d.(*zstd.Decoder).DecodeAll([]byte(data), nil)
	if err != nil {
		return nil, err
	}
	if len(plain) > most {
		return nil, fmt.Errorf("unpacked it has more than %d bytes", most)
	}
	return plain, nil
}
