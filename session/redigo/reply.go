package redigo

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"

	redigo "github.com/gomodule/redigo/redis"
)

// convert makes redigo's reply to c of go-redis's: RESP2's types, whatever protocol
// the client speaks.
func convert(c *call, val any) any {
	switch v := val.(type) {
	case string:
		if isStatus(c, v) {
			return v
		}
	case map[any]any:
		if c.name == "xread" || c.name == "xreadgroup" {
			return streams(c, v)
		}
	case []any:
		if pairing.has(c.name) {
			return flat(v)
		}
	}
	return plain(val)
}

// plain converts a value that is the same for all commands.
func plain(val any) any {
	switch v := val.(type) {
	case nil, int64:
		return v
	case string:
		return []byte(v)
	case float64:
		return []byte(number(v))
	case bool:
		if v {
			return int64(1)
		}
		return int64(0)
	case error:
		return redigo.Error(v.Error())
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = plain(e)
		}
		return list
	case map[any]any:
		return pairs(v)
	}
	return []byte(fmt.Sprint(val)) // a *big.Int
}

// pairs lists a map's keys and values by turns. The server's order is lost on the
// way; that of the keys' bytes is at least always the same.
func pairs(m map[any]any) []any {
	type entry struct {
		text       []byte
		key, value any
	}
	entries := make([]entry, 0, len(m))
	for k, v := range m {
		key := plain(k)
		text, ok := key.([]byte)
		if !ok {
			text = fmt.Append(nil, key)
		}
		entries = append(entries, entry{text, key, plain(v)})
	}
	slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare(a.text, b.text) })
	list := make([]any, 0, 2*len(m))
	for _, e := range entries {
		list = append(list, e.key, e.value)
	}
	return list
}

// flat takes RESP3's pairs apart: of members and scores, of fields and values.
func flat(list []any) any {
	all := make([]any, 0, 2*len(list))
	for _, e := range list {
		pair, ok := e.([]any)
		if !ok || len(pair) != 2 {
			return plain(list) // no pairs were asked for, or RESP2 spoken
		}
		all = append(all, plain(pair[0]), plain(pair[1]))
	}
	return all
}

// streams makes RESP2's list of [name, entries] of RESP3's map, in the order in which
// the streams were asked for.
func streams(c *call, m map[any]any) []any {
	list := make([]any, 0, len(m))
	for _, name := range c.args[c.after("streams"):] {
		if entries, ok := m[name]; ok {
			list = append(list, []any{[]byte(name.(string)), plain(entries)})
			delete(m, name) // an id may look like a name
		}
	}
	return list
}

// number writes a double with as few digits as tell it apart, as Redis 7.2 and later
// do under RESP2; earlier ones wrote 17, and 0.1 as 0.10000000000000001. Whole numbers
// have no exponent, so that redigo.Int64 takes them.
func number(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case f == 0, 1e-4 <= math.Abs(f) && math.Abs(f) < 1e17:
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}
