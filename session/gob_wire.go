package session

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"strings"
	"time"
)

// This file reads and writes those records of encoding/gob that hold nothing but
// basic types. A record is four messages, each after its length:
//
//	-record  its definition: struct { Deadline time.Time; Values map[string]interface {} }
//	-time    its definition: a GobEncoder
//	-map     its definition
//	record   the session: for each field that is not zero its distance from the one before, its value; then 0
//
// A value of the map is the name of its type, the number of its type, a length,
// 0, and the value; nil is the empty name alone (encoding/gob's documentation,
// "Encoding Details"). The reader follows encoding/gob where it is sure, and is
// otherwise at a loss: then encoding/gob reads the record from the start.

// The numbers of the basic types, from encoding/gob's type.go.
const (
	gobBool = iota + 1
	gobInt
	gobUint
	gobFloat
	gobBytes
	gobString
	_ // complex
	gobInterface

	gobFirst = 64 // of the types that a stream defines
)

var (
	errNotOurs  = errors.New("session: a record for encoding/gob to read")
	errGobCount = errors.New("gob: the map claims more entries than the record has bytes for")
)

// gobForm is how a binary's encoding/gob begins a record. The numbers depend on
// what the process has encoded before.
type gobForm struct {
	opening string // the three definitions
	record  int64
	time    int64
}

// formOf recognizes the opening of a record. Nothing is taken for granted: it is
// what definitions writes, byte for byte, or none.
func formOf(record string) (gobForm, bool) {
	r := gobReader{rest: record}
	var ids [3]int64
	for i := range ids {
		message := gobReader{rest: r.text()}
		ids[i] = -message.int()
		r.lost = r.lost || message.lost || ids[i] < gobFirst || ids[i] > math.MaxInt32
	}
	if r.lost || ids[0] == ids[1] || ids[1] == ids[2] || ids[2] == ids[0] {
		return gobForm{}, false // encoding/gob refuses these
	}
	opening := record[:len(record)-len(r.rest)]
	// The map has no name if the process had encoded one by itself before.
	known := opening == definitions(ids, "map[string]interface {}") || opening == definitions(ids, "")
	return gobForm{opening, ids[0], ids[1]}, known
}

// definitions are those of a stream whose types have these numbers: record,
// time and map, each a wireType of encoding/gob.
func definitions(ids [3]int64, mapName string) string {
	common := func(b []byte, name string, id int64) []byte { // CommonType{Name, Id}
		if name != "" {
			b = append(appendGobText(append(b, 1), name), 1)
		} else {
			b = append(b, 2)
		}
		return append(appendGobInt(b, id), 0)
	}
	field := func(b []byte, name string, id int64) []byte { // fieldType{Name, Id}
		return append(appendGobInt(append(appendGobText(append(b, 1), name), 1), id), 0)
	}
	record := common(append(appendGobInt(nil, -ids[0]), 3, 1), "", ids[0])
	record = field(field(append(record, 1, 2), "Deadline", ids[1]), "Values", ids[2])
	record = append(record, 0, 0)
	clock := common(append(appendGobInt(nil, -ids[1]), 5, 1), "Time", ids[1])
	clock = append(clock, 0, 0)
	table := common(append(appendGobInt(nil, -ids[2]), 4, 1), mapName, ids[2])
	table = append(table, 1, gobString<<1, 1, gobInterface<<1, 0, 0)
	b := appendGobText(nil, string(record))
	b = appendGobText(b, string(clock))
	return string(appendGobText(b, string(table)))
}

// readGob reads a record, in the form own if it has that. The error is
// errNotOurs if encoding/gob has to say what the record means.
func readGob(b []byte, own *gobForm) (deadline time.Time, values map[string]any, err error) {
	record := string(b) // the one copy: keys and strings are parts of it
	var f gobForm
	if own != nil && strings.HasPrefix(record, own.opening) {
		f = *own
	} else if other, ok := formOf(record); ok {
		f = other
	} else {
		return time.Time{}, nil, errNotOurs
	}
	r := gobReader{rest: record[len(f.opening):]}
	message := r.text()
	after := len(r.rest)
	r.rest = message
	if r.int() != f.record {
		return time.Time{}, nil, errNotOurs
	}
	delta := r.uint()
	if delta == 1 {
		if deadline.GobDecode([]byte(r.text())) != nil {
			return time.Time{}, nil, errNotOurs
		}
		if delta = r.uint(); delta == 1 {
			delta = 2
		} else if delta != 0 {
			return time.Time{}, nil, errNotOurs
		}
	}
	if delta == 2 {
		n := r.uint()
		// encoding/gob would allocate for n entries before it finds the record
		// too short: a damaged byte can ask for all memory there is. An entry
		// takes two bytes at least, here or in the messages that follow.
		switch room := (len(r.rest) + after) / 2; {
		case r.lost || n > math.MaxInt: // encoding/gob takes it for a negative number
			return time.Time{}, nil, errNotOurs
		case int(n) > room:
			return time.Time{}, nil, errGobCount
		}
		values = r.values(int(n), f.time)
		delta = r.uint()
	}
	if r.lost || delta != 0 { // what comes after the end, encoding/gob ignores
		return time.Time{}, nil, errNotOurs
	}
	return deadline, values, nil
}

// gobReader takes a message apart. Once lost, it reads zeros.
type gobReader struct {
	rest string
	lost bool
}

func (r *gobReader) values(n int, timeID int64) map[string]any {
	values := make(map[string]any, n)
	for range n {
		key := r.text()
		values[key] = r.value(timeID)
		if r.lost {
			return nil
		}
	}
	return values
}

func (r *gobReader) value(timeID int64) any {
	name := r.text()
	if name == "" {
		return nil
	}
	id := r.int()
	r.uint() // the length, which encoding/gob does not look at either
	if r.uint() != 0 {
		r.lost = true
	}
	if r.lost {
		return nil
	}
	switch name {
	case "string":
		r.expect(id, gobString)
		return r.text()
	case "bool":
		r.expect(id, gobBool)
		return r.uint() != 0
	case "[]uint8":
		r.expect(id, gobBytes)
		if s := r.text(); s != "" {
			return []byte(s)
		}
		return []byte(nil)
	case "time.Time": // as scs.go registers it
		r.expect(id, timeID)
		var t time.Time
		if t.GobDecode([]byte(r.text())) != nil {
			r.lost = true
		}
		return t
	}
	return r.number(name, id)
}

func (r *gobReader) number(name string, id int64) any {
	switch name {
	case "int":
		return gobSigned[int](r, id)
	case "int8":
		return gobSigned[int8](r, id)
	case "int16":
		return gobSigned[int16](r, id)
	case "int32":
		return gobSigned[int32](r, id)
	case "int64":
		return gobSigned[int64](r, id)
	case "uint":
		return gobUnsigned[uint](r, id)
	case "uint8":
		return gobUnsigned[uint8](r, id)
	case "uint16":
		return gobUnsigned[uint16](r, id)
	case "uint32":
		return gobUnsigned[uint32](r, id)
	case "uint64":
		return gobUnsigned[uint64](r, id)
	case "float64":
		r.expect(id, gobFloat)
		return r.float()
	case "float32":
		r.expect(id, gobFloat)
		f := r.float()
		if a := math.Abs(f); a > math.MaxFloat32 && a <= math.MaxFloat64 {
			r.lost = true
		}
		return float32(f)
	}
	r.lost = true // complex numbers, uintptr, registered types
	return nil
}

func gobSigned[T int | int8 | int16 | int32 | int64](r *gobReader, id int64) T {
	r.expect(id, gobInt)
	x := r.int()
	if int64(T(x)) != x {
		r.lost = true
	}
	return T(x)
}

func gobUnsigned[T uint | uint8 | uint16 | uint32 | uint64](r *gobReader, id int64) T {
	r.expect(id, gobUint)
	x := r.uint()
	if uint64(T(x)) != x {
		r.lost = true
	}
	return T(x)
}

func (r *gobReader) expect(id, want int64) { r.lost = r.lost || id != want }

// take returns the next n bytes.
func (r *gobReader) take(n uint64) string {
	if r.lost || n > uint64(len(r.rest)) {
		r.lost, r.rest = true, ""
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

// text reads a length and so many bytes.
func (r *gobReader) text() string { return r.take(r.uint()) }

// uint reads a byte below 128, or the count of the bytes that follow, negated.
func (r *gobReader) uint() (x uint64) {
	head := r.take(1)
	if r.lost {
		return 0
	}
	if head[0] < 0x80 {
		return uint64(head[0])
	}
	n := -int(int8(head[0]))
	if n > 8 {
		r.lost = true
		return 0
	}
	tail := r.take(uint64(n))
	for i := range len(tail) {
		x = x<<8 | uint64(tail[i])
	}
	return x
}

func (r *gobReader) int() int64 {
	x := r.uint()
	if x&1 != 0 {
		return ^int64(x >> 1)
	}
	return int64(x >> 1)
}

func (r *gobReader) float() float64 { return math.Float64frombits(bits.ReverseBytes64(r.uint())) }

// encode is the inverse of readGob; ok is false if a value is not of a type that
// it knows.
func (f *gobForm) encode(deadline time.Time, values map[string]any) (b []byte, ok bool) {
	// The message's length is known last. It is put right before the message, the
	// opening before that, and the result begins wherever that is.
	head := len(f.opening) + binary.MaxVarintLen64
	b = make([]byte, head, head+64+48*len(values))
	b = appendGobInt(b, f.record)
	step := byte(2)
	if deadline != (time.Time{}) {
		if b, ok = appendGobTime(append(b, 1), deadline); !ok {
			return nil, false
		}
		step = 1
	}
	if values != nil {
		b = appendGobUint(append(b, step), uint64(len(values)))
		for key, v := range values {
			if b, ok = f.appendValue(appendGobText(b, key), v); !ok {
				return nil, false
			}
		}
	}
	b = append(b, 0)
	var length [binary.MaxVarintLen64]byte
	size := appendGobUint(length[:0], uint64(len(b)-head))
	start := head - len(size)
	copy(b[start:], size)
	start -= len(f.opening)
	copy(b[start:], f.opening)
	return b[start:], true
}

func (f *gobForm) appendValue(b []byte, v any) (_ []byte, ok bool) {
	switch v := v.(type) {
	case nil:
		return append(b, 0), true
	case string:
		b = appendGobHead(b, "string", gobString, gobUintSize(uint64(len(v)))+len(v))
		return appendGobText(b, v), true
	case []byte:
		b = appendGobHead(b, "[]uint8", gobBytes, gobUintSize(uint64(len(v)))+len(v))
		return append(appendGobUint(b, uint64(len(v))), v...), true
	case bool:
		var x uint64
		if v {
			x = 1
		}
		return appendGobNumber(b, "bool", gobBool, x), true
	case time.Time:
		var buf [32]byte
		payload, ok := appendGobTime(buf[:0], v)
		return append(appendGobHead(b, "time.Time", f.time, len(payload)), payload...), ok
	case int:
		return appendGobNumber(b, "int", gobInt, zigzag(int64(v))), true
	case int8:
		return appendGobNumber(b, "int8", gobInt, zigzag(int64(v))), true
	case int16:
		return appendGobNumber(b, "int16", gobInt, zigzag(int64(v))), true
	case int32:
		return appendGobNumber(b, "int32", gobInt, zigzag(int64(v))), true
	case int64:
		return appendGobNumber(b, "int64", gobInt, zigzag(v)), true
	case uint:
		return appendGobNumber(b, "uint", gobUint, uint64(v)), true
	case uint8:
		return appendGobNumber(b, "uint8", gobUint, uint64(v)), true
	case uint16:
		return appendGobNumber(b, "uint16", gobUint, uint64(v)), true
	case uint32:
		return appendGobNumber(b, "uint32", gobUint, uint64(v)), true
	case uint64:
		return appendGobNumber(b, "uint64", gobUint, v), true
	case float32:
		return appendGobNumber(b, "float32", gobFloat, floatBits(float64(v))), true
	case float64:
		return appendGobNumber(b, "float64", gobFloat, floatBits(v)), true
	}
	return nil, false
}

// appendGobHead is what stands before a value of size bytes.
func appendGobHead(b []byte, name string, id int64, size int) []byte {
	b = appendGobInt(appendGobText(b, name), id)
	return append(appendGobUint(b, uint64(size)+1), 0)
}

func appendGobNumber(b []byte, name string, id int64, x uint64) []byte {
	return appendGobUint(appendGobHead(b, name, id, gobUintSize(x)), x)
}

func appendGobTime(b []byte, t time.Time) (_ []byte, ok bool) {
	var buf [16]byte // version, seconds, nanoseconds, zone: 15 bytes, or 16 for odd zones
	data, err := t.AppendBinary(buf[:0])
	return append(appendGobUint(b, uint64(len(data))), data...), err == nil
}

func appendGobText(b []byte, s string) []byte {
	return append(appendGobUint(b, uint64(len(s))), s...)
}

func appendGobInt(b []byte, x int64) []byte { return appendGobUint(b, zigzag(x)) }

func appendGobUint(b []byte, x uint64) []byte {
	if x < 0x80 {
		return append(b, byte(x))
	}
	var buf [8]byte
	binary.BigEndian.PutUint64(buf[:], x)
	zeros := bits.LeadingZeros64(x) / 8
	return append(append(b, byte(zeros-8)), buf[zeros:]...)
}

func gobUintSize(x uint64) int {
	if x < 0x80 {
		return 1
	}
	return 9 - bits.LeadingZeros64(x)/8
}

func zigzag(x int64) uint64 { return uint64(x<<1) ^ uint64(x>>63) }

func floatBits(f float64) uint64 { return bits.ReverseBytes64(math.Float64bits(f)) }
