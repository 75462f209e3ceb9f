package session_test

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/go-weir/weir/session"
)

func TestJSONCodec_format(t *testing.T) {
	t.Parallel()
	deadline := time.Date(2031, 2, 3, 4, 5, 6, 700, time.FixedZone("", 3600))
	for _, tt := range []struct {
		v    any
		want string
	}{
		{"väl\n\"<", `"väl\n\"\u003c"`},
		{"", `""`},
		{true, `true`},
		{false, `false`},
		{-7, `{"int":"-7"}`},
		{int8(-128), `{"int8":"-128"}`},
		{int16(7), `{"int16":"7"}`},
		{int32(7), `{"int32":"7"}`},
		{int64(math.MinInt64), `{"int64":"-9223372036854775808"}`},
		{uint(7), `{"uint":"7"}`},
		{uint8(255), `{"uint8":"255"}`},
		{uint16(7), `{"uint16":"7"}`},
		{uint32(7), `{"uint32":"7"}`},
		{uint64(math.MaxUint64), `{"uint64":"18446744073709551615"}`},
		{0.1, `{"float64":"0.1"}`},
		{math.MaxFloat64, `{"float64":"1.7976931348623157e+308"}`},
		{math.NaN(), `{"float64":"NaN"}`},
		{math.Inf(-1), `{"float64":"-Inf"}`},
		{math.Copysign(0, -1), `{"float64":"-0"}`},
		{float32(0.1), `{"float32":"0.1"}`},
		{float32(math.Inf(1)), `{"float32":"+Inf"}`},
		{[]byte("\x00\xff"), `{"bytes":"AP8="}`},
		{[]byte{}, `{"bytes":""}`},
		{deadline, `{"time":"2031-02-03T04:05:06.0000007+01:00"}`},
		{[]string{"a", "b\\"}, `{"[]string":["a","b\\"]}`},
		{[]string{}, `{"[]string":[]}`},
	} {
		b, err := session.JSONCodec{}.Encode(deadline, map[string]any{"k": tt.v})
		want := `{"deadline":"2031-02-03T04:05:06.0000007+01:00","values":{"k":` + tt.want + `}}`
		if err != nil || string(b) != want || !json.Valid(b) {
			t.Errorf("Encode(%#v):\ngot  %s, %v;\nwant %s", tt.v, b, err, want)
		}
		at, values, err := session.JSONCodec{}.Decode(b)
		if err != nil || !at.Equal(deadline) || !sameValue(timeless(values["k"]), timeless(tt.v)) {
			t.Errorf("Decode(%s): %v %#v, %v; want %v %#v", b, at, values, err, deadline, tt.v)
		}
	}
}

// timeless is v, with the instant in place of a time, whose zone has no name in JSON.
func timeless(v any) any {
	if t, ok := v.(time.Time); ok {
		return t.UTC()
	}
	return v
}

// What scs's getters return depends on the type that comes back.
func TestJSONCodec_getters(t *testing.T) {
	t.Parallel()
	m := scs.New()
	m.Codec = session.JSONCodec{}
	ctx, err := m.Load(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(5, 6).UTC()
	for key, v := range map[string]any{"s": "x", "b": true, "i": 7, "i64": int64(8), "i32": int32(9), "f": 1.5, "y": []byte("z"), "t": at} {
		m.Put(ctx, key, v)
	}
	token, _, err := m.Commit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if ctx, err = m.Load(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	got := []any{m.GetString(ctx, "s"), m.GetBool(ctx, "b"), m.GetInt(ctx, "i"), m.GetInt64(ctx, "i64"), m.GetInt32(ctx, "i32"), m.GetFloat(ctx, "f"), m.GetBytes(ctx, "y"), m.GetTime(ctx, "t")}
	if want := []any{"x", true, 7, int64(8), int32(9), 1.5, []byte("z"), at}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
}

func TestJSONCodec_whatAnotherWriterMayDo(t *testing.T) {
	t.Parallel()
	const record = " {\r\n\t\"values\" : { \"a\\u00e9\\ud83d\\ude00\\/\\b\\f\" : true , \"n\" : { \"int\" : \"+7\" } , \"l\" : { \"[]string\" : [ \"a\" , \"b\" ] } } , \"deadline\" : \"2031-02-03T04:05:06Z\" } \n"
	want := map[string]any{"aé😀/\b\f": true, "n": 7, "l": []string{"a", "b"}}
	if _, got, err := (session.JSONCodec{}).Decode([]byte(record)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, %v; want %#v", got, err, want)
	}
	if b, err := (session.JSONCodec{}).Encode(time.Time{}, nil); err != nil || string(b) != `{"deadline":"0001-01-01T00:00:00Z","values":{}}` {
		t.Errorf("Encode(nil): %s, %v; want an empty session", b, err)
	}
	if _, got, err := (session.JSONCodec{}).Decode([]byte(`{"deadline":"0001-01-01T00:00:00Z","values":{}}`)); err != nil || got == nil || len(got) != 0 {
		t.Errorf("Decode: %#v, %v; want an empty map, which scs can write into", got, err)
	}
}

func TestJSONCodec_zonesWithSeconds(t *testing.T) {
	t.Parallel()
	want := time.Unix(1e9, 5).In(time.FixedZone("LMT", 3600+32))
	b, err := session.JSONCodec{}.Encode(want, map[string]any{"t": want})
	if err != nil {
		t.Fatal(err)
	}
	deadline, values, err := session.JSONCodec{}.Decode(b)
	if got, _ := values["t"].(time.Time); err != nil || !deadline.Equal(want) || !got.Equal(want) {
		t.Errorf("got %v and %v, %v; want the instant %v", deadline, got, err, want)
	}
}

func TestJSONCodec_valuesThatCannotBeEncoded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		key  string
		v    any
		want string
	}{
		{"cart", gobCart{}, `session: value of key "cart": JSONCodec cannot encode session_test.gobCart: use session.NewKey[session_test.gobCart], which stores what encoding/json makes of it`},
		{"d", time.Second, `session: value of key "d": JSONCodec cannot encode time.Duration: use session.NewKey[time.Duration], which stores what encoding/json makes of it`},
		{"n", nil, `session: value of key "n": JSONCodec has no nil: remove the key instead`},
		{"s", "\xff", `session: value of key "s": JSONCodec cannot encode text that is not UTF-8: make it a []byte`},
		{"l", []string{"", "\xff"}, `session: value of key "l": JSONCodec cannot encode text that is not UTF-8: make it a []byte`},
		{"\xff", "s", `session: value of key "\xff": JSONCodec cannot encode text that is not UTF-8: make it a []byte`},
		{"t", time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), `session: value of key "t": `},
	} {
		b, err := session.JSONCodec{}.Encode(gobDeadline, map[string]any{tt.key: tt.v})
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) || b != nil {
			t.Errorf("Encode(%#v):\ngot  %s, %v;\nwant %v", tt.v, b, err, tt.want)
		}
	}
	if b, err := (session.JSONCodec{}).Encode(time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC), nil); err == nil || b != nil {
		t.Errorf("Encode(a deadline that RFC 3339 has no form for): %s; want an error", b)
	}
}

// A record that is not exactly one session's is none.
func TestJSONCodec_strict(t *testing.T) {
	t.Parallel()
	const head, tail = `{"deadline":"2031-02-03T04:05:06Z","values":{`, `}}`
	var records []string
	for _, member := range []string{
		`"k"`, `"k":`, `"k":null`, `"k":7`, `"k":[]`, `"k":["a"]`, `"k":{}`, `"k":True`, `"k":truefalse`, `k:true`, `"k":true,`, `,"k":true`,
		`"k":true "l":true`, `"k":true,"k":true`, `"k":true,"\u006b":true`,
		`"k":{"uintptr":"7"}`, `"k":{"Int":"7"}`, `"k":{"":"7"}`, `"k":{"int":"7","int":"7"}`, `"k":{"int":"7","int8":"7"}`, `"k":{"int":"7",}`,
		`"k":{"int":7}`, `"k":{"int":""}`, `"k":{"int":"x"}`, `"k":{"int":"1_0"}`, `"k":{"int":"0x1"}`, `"k":{"int":" 1"}`, `"k":{"int":{"int":"7"}}`,
		`"k":{"int8":"128"}`, `"k":{"int16":"32768"}`, `"k":{"int32":"2147483648"}`, `"k":{"int64":"9223372036854775808"}`,
		`"k":{"uint":"-1"}`, `"k":{"uint8":"256"}`, `"k":{"uint16":"65536"}`, `"k":{"uint32":"4294967296"}`, `"k":{"uint64":"18446744073709551616"}`,
		`"k":{"float32":"1e39"}`, `"k":{"float64":"1e309"}`, `"k":{"float64":"one"}`, `"k":{"float64":1.5}`,
		`"k":{"bytes":"AP8"}`, `"k":{"bytes":"AP9="}`, `"k":{"bytes":"AP\n8="}`, `"k":{"bytes":"-_8="}`, `"k":{"bytes":["A"]}`,
		`"k":{"time":"2031-02-03"}`, `"k":{"time":"2031-02-03T04:05:06"}`, `"k":{"time":"2031-2-3T4:05:06Z"}`, `"k":{"time":""}`,
		`"k":{"[]string":"a"}`, `"k":{"[]string":[1]}`, `"k":{"[]string":["a",]}`, `"k":{"[]string":["a"}`, `"k":{"[]string":["a" "b"]}`, `"k":{"[]string":[["a"]]}`,
		`"k":"` + "\xff" + `"`, `"` + "\xff" + `":true`, `"k":"` + "\n" + `"`, `"k":"\n` + "\n" + `"`, `"k":"\x"`, `"k":"\u12"`, `"k":"\u+123"`, `"k":"\U0041"`,
		`"k":"\ud800"`, `"k":"\udc00"`, `"k":"\ud800x"`, `"k":"\ud800\n"`, `"k":"\ud800\ud800"`, `"k":"\ud800\u0041"`, `"k":"\ufffg"`,
		`"k":{"[]string":` + strings.Repeat("[", 1<<20), `"k":` + strings.Repeat(`{"k":`, 1<<18),
	} {
		records = append(records, head+member+tail)
	}
	good := head + `"k":{"[]string":["a\n"]},"l":true` + tail
	if _, _, err := (session.JSONCodec{}).Decode([]byte(good)); err != nil {
		t.Fatalf("Decode(%s): %v; want nil", good, err)
	}
	for i := range good {
		records = append(records, good[:i])
	}
	records = append(records, good+"x", good+good, good+"\x00", "\xef\xbb\xbf"+good, "[]", "null", "{}",
		`{"deadline":"2031-02-03T04:05:06Z"}`, `{"values":{}}`, `{"deadline":"2031-02-03T04:05:06Z","values":{},"x":{}}`, `{"deadline":"","values":{}}`,
		`{"deadline":"2031-02-03T04:05:06Z","deadline":"2031-02-03T04:05:06Z","values":{}}`, `{"deadline":"2031-02-03T04:05:06Z","values":{},"values":{}}`,
		`{"Deadline":"2031-02-03T04:05:06Z","values":{}}`, `{"deadline":"2031-02-03T04:05:06Z","values":null}`)
	gob, err := session.GobCodec{}.Encode(gobDeadline, fiveStrings())
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range append(records, string(gob)) {
		deadline, values, err := session.JSONCodec{}.Decode([]byte(record))
		if !errors.Is(err, session.ErrCorrupt) || values != nil || !deadline.IsZero() {
			t.Errorf("Decode(%.200q): %v %v, %v; want an ErrCorrupt", record, deadline, values, err)
		}
	}
	if _, _, err := (session.GobCodec{}).Decode([]byte(good)); !errors.Is(err, session.ErrCorrupt) {
		t.Errorf("gob decodes JSON: %v; want an ErrCorrupt", err)
	}
}

// What is accepted is JSON, means to encoding/json the same, and survives another
// round.
func FuzzDecodeJSON(f *testing.F) {
	basics := maps.Clone(gobBasics)
	maps.DeleteFunc(basics, func(_ string, v any) bool { return v == nil || v == gobBasics["string"] || v == gobBasics["long"] })
	basics["l"] = []string{"a\n", "b"}
	for _, values := range []map[string]any{nil, fiveStrings(), basics} {
		b, err := session.JSONCodec{}.Encode(gobDeadline, values)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"deadline":"2031-02-03T04:05:06Z","values":{"a\ud83d\ude00":"\u0000\/"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		deadline, values, err := session.JSONCodec{}.Decode(b)
		if err != nil {
			if !errors.Is(err, session.ErrCorrupt) {
				t.Fatalf("%v; want an ErrCorrupt", err)
			}
			return
		}
		var std struct{ Values map[string]any }
		if err := json.Unmarshal(b, &std); err != nil || len(std.Values) != len(values) {
			t.Fatalf("%q: encoding/json has %v, %v; want %v", b, std.Values, err, values)
		}
		for key, v := range values {
			want := std.Values[key]
			if list, ok := v.([]string); ok {
				var got []string
				for _, s := range want.(map[string]any)["[]string"].([]any) {
					got = append(got, s.(string))
				}
				if !slices.Equal(got, list) {
					t.Fatalf("%q: %q; want %q", b, list, got)
				}
			} else if _, tagged := want.(map[string]any); !tagged && v != want {
				t.Fatalf("%q: %v; want %v, as encoding/json", b, v, want)
			}
		}
		again, err := session.JSONCodec{}.Encode(deadline, values)
		if err != nil {
			t.Fatalf("%q: Encode: %v; want nil", b, err)
		}
		at, got, err := session.JSONCodec{}.Decode(again)
		if err != nil || !at.Equal(deadline) || !maps.EqualFunc(got, values, func(a, b any) bool { return sameValue(timeless(a), timeless(b)) }) {
			t.Fatalf("%q: %v %v, %v; want %v %v", again, at, got, err, deadline, values)
		}
	})
}

func FuzzJSON_roundTrip(f *testing.F) {
	f.Add("key", "väl\u2028<\"\\\x00", int64(-1), uint64(1), 1.5, true, []byte("b"), int64(1e18), 3600)
	f.Add("", "", int64(math.MinInt64), uint64(math.MaxUint64), math.NaN(), false, []byte{}, int64(0), 1)
	f.Fuzz(func(t *testing.T, key, s string, i int64, u uint64, x float64, yes bool, b []byte, nanos int64, zone int) {
		at := time.Unix(0, nanos).In(time.FixedZone("", zone%86400))
		key, s = strings.ToValidUTF8(key, "?"), strings.ToValidUTF8(s, "?")
		values := map[string]any{
			key: s, key + "i": i, key + "int": int(i), key + "8": int8(i), key + "16": int16(i), key + "32": int32(i),
			key + "u": u, key + "uint": uint(u), key + "u8": uint8(u), key + "u16": uint16(u), key + "u32": uint32(u),
			key + "f": x, key + "f32": float32(x), key + "?": yes, key + "b": append([]byte{}, b...), key + "t": at, key + "l": []string{s, key},
		}
		record, err := session.JSONCodec{}.Encode(at, values)
		if err != nil || !json.Valid(record) {
			t.Fatalf("Encode: %s, %v; want JSON", record, err)
		}
		deadline, got, err := session.JSONCodec{}.Decode(record)
		if err != nil || !deadline.Equal(at) || !maps.EqualFunc(got, values, func(a, b any) bool { return sameValue(timeless(a), timeless(b)) }) {
			t.Fatalf("Decode(%s): %v %v, %v; want %v %v", record, deadline, got, err, at, values)
		}
	})
}
