package session_test

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/go-weir/weir/session"
)

type (
	gobCart  struct{ Items []string }
	gobRole  string
	gobOther struct{ N int }
	gobShy   struct{ n int }
	gobBomb  struct{ When string } // panics when it is encoded, or decoded
)

func (b gobBomb) GobEncode() ([]byte, error) {
	if b.When == "encode" {
		panic("a bug in GobEncode")
	}
	return []byte(b.When), nil
}

func (b *gobBomb) GobDecode(data []byte) error {
	if b.When = string(data); b.When == "decode" {
		panic("a bug in GobDecode")
	}
	return nil
}

func init() {
	gob.Register(gobCart{})
	gob.Register(&gobOther{})
	gob.Register(gobBomb{})
	gob.Register(gobShy{})
}

var gobDeadline = time.Date(2031, 2, 3, 4, 5, 6, 789, time.UTC)

// gobBasics are values that need nothing of encoding/gob.
var gobBasics = map[string]any{
	"string": "väl\x00ue\xff", "no string": "", "long": strings.Repeat("x", 70000), "": "no key",
	"true": true, "false": false, "nil": nil,
	"int": -5, "int min": math.MinInt, "int max": math.MaxInt, "int 63": 63, "int 64": 64, "int -64": -64, "int -65": -65,
	"int8": int8(-128), "int16": int16(math.MaxInt16), "int32": int32(math.MinInt32), "int64": int64(math.MinInt64),
	"uint": uint(127), "uint 128": uint(128), "uint8": uint8(255), "uint16": uint16(256), "uint32": uint32(math.MaxUint32), "uint64": uint64(math.MaxUint64),
	"float64": 1.5, "float64 0": 0.0, "float64 -0": math.Copysign(0, -1), "float64 max": math.MaxFloat64, "NaN": math.NaN(), "Inf": math.Inf(-1),
	"float32": float32(0.1), "float32 max": float32(math.MaxFloat32), "float32 Inf": float32(math.Inf(1)), "float32 tiny": float32(math.SmallestNonzeroFloat32),
	"bytes": []byte("\x00\xff"), "no bytes": []byte{}, "nil bytes": []byte(nil),
	"time": time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), "time zone": time.Unix(1, 1).In(time.FixedZone("odd", 3601)), "time local": time.Unix(1e9, 0),
}

// sameValue is reflect.DeepEqual with NaN equal to NaN.
func sameValue(a, b any) bool {
	return reflect.DeepEqual(a, b) || reflect.TypeOf(a) == reflect.TypeOf(b) && a != a && b != b
}

// sameAsSCS fails the test unless a record means to Weir what it means to scs.
func sameAsSCS(t *testing.T, record []byte) {
	t.Helper()
	wantDeadline, want, wantErr := scs.GobCodec{}.Decode(record)
	deadline, got, err := session.GobCodec{}.Decode(record)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("Decode(%x): %v; want as scs: %v", record, err, wantErr)
	}
	if err != nil {
		if !errors.Is(err, session.ErrCorrupt) {
			t.Fatalf("Decode(%x): %v; want an ErrCorrupt", record, err)
		}
		return
	}
	if got == nil {
		t.Fatalf("Decode(%x): nil values; want a map", record)
	}
	if !sameValue(deadline, wantDeadline) || !maps.EqualFunc(got, want, sameValue) {
		t.Fatalf("Decode(%x):\ngot  %v %#v;\nwant %v %#v, as scs", record, deadline, got, wantDeadline, want)
	}
}

func TestGobCodec_eachBasicValue(t *testing.T) {
	t.Parallel()
	for name, v := range gobBasics {
		values := map[string]any{name: v}
		want, err := scs.GobCodec{}.Encode(gobDeadline, values)
		if err != nil {
			t.Fatal(err)
		}
		got, err := session.GobCodec{}.Encode(gobDeadline, values)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("Encode(%s):\ngot  %x, %v;\nwant %x, as scs", name, got, err, want)
		}
		if !session.GobItself(want) {
			t.Errorf("%s: read by encoding/gob; want it read without", name)
		}
		sameAsSCS(t, want)
	}
}

func TestGobCodec_eachDeadlineAndMap(t *testing.T) {
	t.Parallel()
	zones := []*time.Location{time.UTC, time.Local, time.FixedZone("", 3600), time.FixedZone("", -1801)}
	for _, values := range []map[string]any{nil, {}, {"k": "v"}, gobBasics} {
		for _, zone := range zones {
			for _, deadline := range []time.Time{gobDeadline.In(zone), {}, time.Time{}.In(zone), time.Now()} {
				got, err := session.GobCodec{}.Encode(deadline, values)
				if err != nil {
					t.Fatalf("Encode(%v): %v; want nil", deadline, err)
				}
				want, err := scs.GobCodec{}.Encode(deadline, values)
				if err != nil || len(got) != len(want) { // a map has no order
					t.Errorf("Encode(%v): %d bytes; want %d, %v", deadline, len(got), len(want), err)
				}
				sameAsSCS(t, got)
				sameAsSCS(t, want)
			}
		}
	}
}

// A registered type is defined inside of a record's values, under numbers that
// are the writer's. Nothing of that may last until the next record.
func TestGobCodec_registeredTypes(t *testing.T) {
	t.Parallel()
	records := [][]byte{}
	for _, values := range []map[string]any{
		{"k": gobCart{[]string{"a"}}}, {"k": &gobOther{1}}, {"k": []string{"a", "b"}}, {"k": []int{1}},
		{"k": complex(1, 2)}, {"k": uintptr(1)}, {"k": "plain"}, {"k": gobBomb{"never"}},
		{"a": gobCart{}, "b": 1, "c": gobCart{[]string{"x"}}, "d": time.Unix(1, 0)},
	} {
		record, err := session.GobCodec{}.Encode(gobDeadline, values)
		if err != nil {
			t.Fatalf("Encode(%v): %v; want nil", values, err)
		}
		if _, basic := values["k"].(string); session.GobItself(record) != basic {
			t.Errorf("%v: read without encoding/gob: %t; want %t", values, !basic, basic)
		}
		_, got, err := session.GobCodec{}.Decode(record)
		if err != nil || values["c"] == nil && !reflect.DeepEqual(got, values) {
			t.Errorf("got %v, %v; want %v", got, err, values)
		}
		records = append(records, record)
	}
	for range 3 {
		for _, record := range records {
			sameAsSCS(t, record)
		}
	}
}

// Other binaries number the types otherwise, as they encoded other things before.
func TestGobCodec_recordsOfOtherBinaries(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		ids    [3]int64
		name   string
		itself bool
	}{
		{[3]int64{64, 65, 66}, "map[string]interface {}", true},
		{[3]int64{100, 70, 99}, "map[string]interface {}", true},
		{[3]int64{127, 128, 32768}, "", true},
		{[3]int64{math.MaxInt32, 8388608, 70000}, "map[string]interface {}", true},
		{[3]int64{80, 81, 82}, "another name", false},
		{[3]int64{64, 64, 66}, "", false}, // encoding/gob: duplicate type received
		{[3]int64{64, 65, 64}, "", false},
		{[3]int64{64, 65, 65}, "", false},
		{[3]int64{63, 65, 66}, "", false}, // a number of encoding/gob's own
		{[3]int64{math.MaxInt32 + 1, 65, 66}, "", false},
		{[3]int64{1<<32 + 64, 65, 66}, "", false},
		{[3]int64{-64, 65, 66}, "", false},
	} {
		record, ok := session.GobElsewhere(tt.ids, tt.name, gobDeadline, gobBasics)
		if !ok {
			t.Fatal("not encoded")
		}
		if got := session.GobItself(record); got != tt.itself {
			t.Errorf("%v %q: read without encoding/gob: %t; want %t", tt.ids, tt.name, got, tt.itself)
		}
		sameAsSCS(t, record)
	}
}

// A definition ends a message, so that most of these entries come in the next one.
// Red if room for them is looked for in the first only.
func TestGobCodec_entriesAfterADefinition(t *testing.T) {
	t.Parallel()
	values := map[string]any{"cart": gobCart{[]string{"a"}}}
	for i := range 200 {
		values[fmt.Sprint(i)] = nil
	}
	for range 200 { // maps have no order
		record, err := session.GobCodec{}.Encode(gobDeadline, values)
		if err != nil {
			t.Fatal(err)
		}
		if _, got, err := (session.GobCodec{}).Decode(record); err != nil || len(got) != len(values) {
			t.Fatalf("%d values, %v; want %d", len(got), err, len(values))
		}
	}
}

// Each type's name with each type's number and values that it may not be able to hold.
func TestGobCodec_valuesOfAnyForm(t *testing.T) {
	t.Parallel()
	opening, _ := session.GobElsewhere([3]int64{64, 65, 66}, "", time.Time{}, nil)
	opening = opening[:len(opening)-4]
	payloads := []string{"", "\x00", "\x01", "\x02", "\x7f", "\xff\x80", "\xff\xff", "\xfe\x01\x00", "\xfe\xff\xff", "\xfd\x01\x00\x00", "\xfc\xff\xff\xff\xff",
		"\xfb\x01\x00\x00\x00\x00", "\xf8" + strings.Repeat("\xff", 8), "\xf8\xff\xff\xff\xff\xff\xff\xff\xfe", "\xf7" + strings.Repeat("\x00", 9), "\xfe\xf0\x7f", "\xfe\xf8\x7f", "\xfe\xf0\x48",
		"\x0f\x01\x00\x00\x00\x0ew\x91\xf7\x01\x00\x00\x00\x00\xff\xff", "\x01a", "\x02a"}
	for _, name := range strings.Fields("string bool []uint8 time.Time int int8 int16 int32 int64 uint uint8 uint16 uint32 uint64 uintptr float32 float64 complex64 complex128 []int none") {
		for _, id := range []int64{-65, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 63, 64, 65, 66, 67} {
			for _, payload := range payloads {
				for _, head := range []string{"\x00", "\x01", "\x05\x00"} {
					message := slices.Concat([]byte("\xff\x80\x02\x01\x01k"), []byte{byte(len(name))}, []byte(name), session.GobUint(uint64(id<<1^id>>63)))
					message = slices.Concat(message, []byte(head), []byte("\x00"), []byte(payload), []byte{0})
					record := slices.Concat(opening, session.GobUint(uint64(len(message))), message)
					if !gobCouldExhaust(record) {
						sameAsSCS(t, record)
					}
				}
			}
		}
	}
}

// Whatever byte is lost, or damaged, the outcome is scs's.
func TestGobCodec_damagedRecords(t *testing.T) {
	t.Parallel()
	for _, values := range []map[string]any{
		{"a": "string", "b": true, "c": []byte("bytes")}, {"a": 1, "b": int8(-1), "c": uint64(math.MaxUint64), "d": uint8(9)},
		{"a": 1.5, "b": float32(2.5), "c": time.Unix(5, 6)}, {"a": nil, "c": gobCart{[]string{"x"}}},
	} {
		record, err := session.GobCodec{}.Encode(gobDeadline, values)
		if err != nil {
			t.Fatal(err)
		}
		for i := range record {
			sameAsSCS(t, record[:i])
			sameAsSCS(t, append(slices.Clone(record), record[:i]...))
			for _, b := range []byte{0, 1, 2, 3, 0x7f, 0x80, 0xf8, 0xfe, 0xff, record[i] + 1, record[i] - 1, record[i] ^ 0x40} {
				damaged := slices.Clone(record)
				if damaged[i] = b; !gobCouldExhaust(damaged) {
					sameAsSCS(t, damaged)
				}
			}
		}
	}
}

// gobCouldExhaust reports whether encoding/gob might take a part of record for
// the size of a map, and make one that large before it looks further.
func gobCouldExhaust(record []byte) bool {
	for i, b := range record {
		n := -int(int8(b))
		if n < 3 || n > 8 || i+n >= len(record) {
			continue
		}
		var x uint64
		for _, b := range record[i+1 : i+1+n] {
			x = x<<8 | uint64(b)
		}
		if x > 1<<18 && x < 1<<46 {
			return true
		}
	}
	return false
}

// Red without the comparison with errGobCount: encoding/gob makes a map of a
// million entries, or dies, as that of scs does.
func TestGobCodec_claimedEntries(t *testing.T) { // not parallel: it looks at what is allocated
	for _, count := range []uint64{2, 1 << 20} {
		for _, trailing := range []int{0, 1} {
			record, _ := session.GobElsewhere([3]int64{64, 65, 66}, "", time.Time{}, map[string]any{})
			message := slices.Concat([]byte{0xff, 0x80, 2}, session.GobUint(count), []byte{0})
			record = slices.Concat(record[:len(record)-6], []byte{byte(len(message))}, message, make([]byte, trailing))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, err := session.GobCodec{}.Decode(record)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, session.ErrCorrupt) {
				t.Errorf("%d entries: %v; want an ErrCorrupt", count, err)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
				t.Errorf("%d entries: %d bytes allocated; want few", count, took)
			}
			sameAsSCS(t, record)
		}
	}
	negative := "\xff\x80\x02\xf8\x80\x00\x00\x00\x00\x00\x00\x00\x00"
	record, _ := session.GobElsewhere([3]int64{64, 65, 66}, "", time.Time{}, nil)
	sameAsSCS(t, slices.Concat(record[:len(record)-4], []byte{byte(len(negative))}, []byte(negative)))
}

func TestGobCodec_valuesThatCannotBeEncoded(t *testing.T) {
	t.Parallel()
	var nobody *gobOther
	for _, tt := range []struct {
		v    any
		want string
	}{
		{struct{ A int }{}, `session: value of key "cart": gob cannot encode struct { A int }: gob.Register(struct { A int }{}), or use session.NewKey[struct { A int }]`},
		{bytes.Buffer{}, `session: value of key "cart": gob cannot encode bytes.Buffer: gob.Register(bytes.Buffer{}), or use session.NewKey[bytes.Buffer]`},
		{&bytes.Buffer{}, `session: value of key "cart": gob cannot encode *bytes.Buffer: gob.Register(new(bytes.Buffer)), or use session.NewKey[*bytes.Buffer]`},
		{gobRole("x"), `session: value of key "cart": gob cannot encode session_test.gobRole: gob.Register(session_test.gobRole("")), or use session.NewKey[session_test.gobRole]`},
		{time.Second, `session: value of key "cart": gob cannot encode time.Duration: gob.Register(time.Duration(0)), or use session.NewKey[time.Duration]`},
		{map[string]string{}, `session: value of key "cart": gob cannot encode map[string]string: gob.Register(map[string]string{}), or use session.NewKey[map[string]string]`},
		{make(chan int), `session: value of key "cart": gob cannot encode chan int: a session holds data only`},
		{func() {}, `session: value of key "cart": gob cannot encode func(): a session holds data only`},
		{nobody, `session: value of key "cart": gob cannot encode *session_test.gobOther: gob: gob: cannot encode nil pointer of type *session_test.gobOther inside interface`},
		{gobShy{1}, `session: value of key "cart": gob cannot encode session_test.gobShy: gob: type session_test.gobShy has no exported fields`},
		{gobBomb{"encode"}, `session: value of key "cart": gob cannot encode session_test.gobBomb: gob: panic: a bug in GobEncode`},
	} {
		b, err := session.GobCodec{}.Encode(gobDeadline, map[string]any{"a": 1, "cart": tt.v, "z": gobCart{}})
		if err == nil || err.Error() != tt.want || b != nil {
			t.Errorf("Encode(%T):\ngot  %v;\nwant %v", tt.v, err, tt.want)
		}
	}
	never := time.Unix(0, 0).In(time.FixedZone("", 40000*60))
	if _, err := (session.GobCodec{}).Encode(never, nil); err == nil || !strings.HasPrefix(err.Error(), "session: encode: ") {
		t.Errorf("Encode(a deadline in an impossible zone): %v; want an error", err)
	}
	if _, err := (session.GobCodec{}).Encode(gobDeadline, map[string]any{"t": never}); err == nil || !strings.Contains(err.Error(), `key "t"`) {
		t.Errorf("Encode(a time in an impossible zone): %v; want an error that names the key", err)
	}
}

func TestGobCodec_panicOfGobDecode(t *testing.T) {
	t.Parallel()
	record, err := scs.GobCodec{}.Encode(gobDeadline, map[string]any{"k": gobBomb{"decode"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := (session.GobCodec{}).Decode(record); !errors.Is(err, session.ErrCorrupt) {
		t.Errorf("got %v; want an ErrCorrupt", err)
	}
}

func TestGobCodec_concurrently(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				values := map[string]any{"i": i, "j": fmt.Sprint(j), "t": time.Unix(int64(j), 0)}
				if j%3 == 0 {
					values["cart"] = gobCart{[]string{fmt.Sprint(i)}}
				}
				record, err := session.GobCodec{}.Encode(gobDeadline, values)
				if err != nil {
					t.Error(err)
					return
				}
				deadline, got, err := session.GobCodec{}.Decode(record)
				if err != nil || !deadline.Equal(gobDeadline) || !reflect.DeepEqual(got, values) {
					t.Errorf("got %v %v, %v; want %v", deadline, got, err, values)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzDecodeGob(f *testing.F) {
	for _, values := range []map[string]any{nil, {"k": "v"}, gobBasics, {"k": gobCart{[]string{"a"}}}, {"k": complex(1, 2)}} {
		delete(values, "long")
		record, err := session.GobCodec{}.Encode(gobDeadline, values)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(record)
		other, _ := session.GobElsewhere([3]int64{200, 300, 400}, "", gobDeadline, map[string]any{"k": 1})
		f.Add(other)
	}
	f.Add([]byte{})
	opening, _ := session.GobElsewhere([3]int64{64, 65, 66}, "", time.Time{}, nil)
	opening = opening[:len(opening)-4] // without the message: its length, the number 64 and the end
	for key, v := range gobBasics {
		if record, _ := session.GobElsewhere([3]int64{64, 65, 66}, "", time.Time{}, map[string]any{key: v}); len(record) < 200 {
			f.Add(record[len(opening)+4:])
		}
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		if gobCouldExhaust(record) {
			t.Skip("encoding/gob might take all memory")
		}
		sameAsSCS(t, record)
		// The same bytes as the values of a record that is whole up to there.
		record = slices.Concat([]byte{0xff, 0x80, 2}, record)
		record = slices.Concat(opening, session.GobUint(uint64(len(record))), record)
		if !gobCouldExhaust(record) {
			sameAsSCS(t, record)
		}
	})
}

func FuzzGob_roundTrip(f *testing.F) {
	f.Add("key", "väl", int64(-1), uint64(1), 1.5, true, []byte("b"), int64(1e18), 3600)
	f.Add("", "", int64(math.MinInt64), uint64(math.MaxUint64), math.NaN(), false, []byte(nil), int64(0), 1)
	f.Fuzz(func(t *testing.T, key, s string, i int64, u uint64, x float64, yes bool, b []byte, nanos int64, zone int) {
		at := time.Unix(0, nanos).In(time.FixedZone("", zone%86400))
		values := map[string]any{
			key: s, key + "i": i, key + "int": int(i), key + "8": int8(i), key + "16": int16(i), key + "32": int32(i),
			key + "u": u, key + "uint": uint(u), key + "u8": uint8(u), key + "u16": uint16(u), key + "u32": uint32(u),
			key + "f": x, key + "f32": float32(x), key + "?": yes, key + "b": b, key + "t": at, key + "nil": nil,
		}
		for k, v := range values {
			one := map[string]any{k: v}
			got, err := session.GobCodec{}.Encode(at, one)
			want, wantErr := scs.GobCodec{}.Encode(at, one)
			if err != nil && wantErr != nil {
				t.Skip("a zone that time.Time does not encode")
			}
			if err != nil || wantErr != nil || !bytes.Equal(got, want) {
				t.Fatalf("Encode(%#v):\ngot  %x, %v;\nwant %x, %v, as scs", v, got, err, want, wantErr)
			}
		}
		record, err := session.GobCodec{}.Encode(at, values)
		if err != nil || !session.GobItself(record) {
			t.Fatalf("Encode: %v; want a record that is read without encoding/gob", err)
		}
		sameAsSCS(t, record)
	})
}

func fiveStrings() map[string]any {
	return map[string]any{"user": "alice@example.org", "csrf": strings.Repeat("k", 43), "locale": "de-CH", "theme": "dark", "return_to": "/orders/17?page=2"}
}

func BenchmarkCodec(b *testing.B) {
	values := fiveStrings()
	for _, c := range []struct {
		name  string
		codec scs.Codec
	}{{"scs", scs.GobCodec{}}, {"gob", session.GobCodec{}}, {"json", session.JSONCodec{}}} {
		record, err := c.codec.Encode(gobDeadline, values)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("encode/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.codec.Encode(gobDeadline, values); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(record)), "B/record")
		})
		b.Run("decode/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := c.codec.Decode(record); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
