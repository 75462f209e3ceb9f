package redigo_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	redis "github.com/gomodule/redigo/redis"
	goredis "github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
)

// step is a command line, or a word: flush, receive, or all for Do(""). A command
// after "send:" is sent, any other is done.
type step = []any

func line(args ...any) step { return args }

// outcome is what came of a step.
type outcome struct {
	reply any
	err   redis.Error // "" if there is none
}

func (o outcome) String() string { return fmt.Sprintf("%s (%q)", show(o.reply), string(o.err)) }

// play takes steps through a Conn.
func play(t *testing.T, conn redis.Conn, steps []step) (outcomes []outcome) {
	t.Helper()
	for _, s := range steps {
		var reply any
		var err error
		switch name := s[0].(string); {
		case name == "flush":
			err = conn.Flush()
		case name == "receive":
			reply, err = conn.Receive()
		case name == "all":
			reply, err = conn.Do("")
		case strings.HasPrefix(name, "send:"):
			err = conn.Send(name[5:], s[1:]...)
		default:
			reply, err = conn.Do(name, s[1:]...)
		}
		var e redis.Error
		if err != nil && (!errors.As(err, &e) || err.Error() != string(e)) {
			t.Fatalf("%v: got %v; want a reply, or a redis.Error", s, err)
		}
		outcomes = append(outcomes, outcome{reply, e})
	}
	return outcomes
}

// show tells types apart that print alike.
func show(reply any) string {
	switch r := reply.(type) {
	case []byte:
		return fmt.Sprintf("bulk %q", r)
	case string:
		return fmt.Sprintf("status %q", r)
	case redis.Error:
		return fmt.Sprintf("error %q", string(r))
	case []any:
		var parts []string
		for _, e := range r {
			parts = append(parts, show(e))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return fmt.Sprintf("%T %v", reply, reply)
}

// shouting is an argument with a form of its own.
type shouting string

func (s shouting) RedisArg() any { return strings.ToUpper(string(s)) }

// number is an argument of no type that either package knows.
type number uint16

// same are the commands whose replies, in their types and their bytes, are those of
// redigo's own connection.
var same = []step{
	line("PING"), line("PING", "hello"), line("ping"), line("ECHO", "PONG"),
	line("SET", "k", "v"), line("RANDOMKEY"), line("GET", "k"), line("GET", "none"), line("SET", "k", "OK"), line("GET", "k"),
	line("SET", "k", "w", "GET"), line("SET", "k", "w2", "NX"), line("SET", "nx", "1", "NX"), line("SETNX", "k", "x"),
	line("SET", "bin", []byte("\x00\xff\r\n")), line("GET", "bin"), line("GETSET", "bin", "PONG"), line("GETDEL", "bin"),
	line("SET", "f", 1e21), line("GET", "f"), line("SET", "f", 0.1), line("GET", "f"), line("SET", "f", float32(1.5)), line("GET", "f"),
	line("SET", "i", -5), line("GET", "i"), line("SET", "i", int64(1)<<62), line("GET", "i"), line("SET", "b", true), line("GET", "b"),
	line("SET", "b", false), line("GET", "b"), line("SET", "nil", nil), line("GET", "nil"), line("SET", "a", shouting("loud")), line("GET", "a"),
	line("SET", "n", number(7)), line("GET", "n"), line("SET", "l", []int{1, 2}), line("GET", "l"),
	line("SETEX", "ex", 100, "v"), line("PSETEX", "ex", 100000, "v"), line("EXPIRE", "ex", 50), line("PERSIST", "ex"), line("TTL", "ex"),
	line("PEXPIREAT", "ex", 4102444800000), line("PTTL", "none"), line("TYPE", "k"), line("TYPE", "none"), line("EXISTS", "k", "none", "k"),
	line("APPEND", "k", "z"), line("STRLEN", "k"), line("GETRANGE", "k", 0, 1), line("SETRANGE", "k", 1, "Q"), line("INCR", "c"),
	line("INCRBYFLOAT", "c", 0.5), line("DECRBY", "d", 3), line("MSET", "m1", 1, "m2", "OK"), line("MGET", "m1", "none", "m2"), line("MSETNX", "m1", 1),
	line("RENAME", "m1", "m3"), line("RENAMENX", "m3", "m2"), line("DEL", "m2", "m3", "none"), line("UNLINK", "d"), line("COPY", "k", "k2"),
	line("DUMP", "none"), line("OBJECT", "ENCODING", "c"), line("OBJECT", "REFCOUNT", "k"), line("TOUCH", "k"),
	line("HSET", "h", "one", 1), line("HGET", "h", "one"), line("HGETALL", "h"), line("HGETALL", "none"), line("HMSET", "h", "one", 2),
	line("HINCRBYFLOAT", "h", "one", 1.5), line("HMGET", "h", "one", "none"), line("HKEYS", "h"), line("HVALS", "h"), line("HRANDFIELD", "h"),
	line("HRANDFIELD", "h", 2), line("HRANDFIELD", "h", 2, "WITHVALUES"), line("HSCAN", "h", 0), line("HEXISTS", "h", "x"), line("HDEL", "h", "x"),
	line("RPUSH", "q", "a", "b", "c"), line("LRANGE", "q", 0, -1), line("LSET", "q", 0, "x"), line("LTRIM", "q", 0, 1), line("LPOP", "q"),
	line("RPOP", "q", 2), line("LPOP", "none"), line("LPOS", "q", "none"), line("LMPOP", 1, "q", "LEFT"), line("LMPOP", 1, "none", "LEFT"),
	line("SADD", "s", "m"), line("SMEMBERS", "s"), line("SMEMBERS", "none"), line("SISMEMBER", "s", "m"), line("SMISMEMBER", "s", "m", "x"),
	line("SRANDMEMBER", "s"), line("SRANDMEMBER", "s", 3), line("SUNION", "s", "none"), line("SINTERCARD", 1, "s"), line("SSCAN", "s", 0), line("SPOP", "s"), line("SPOP", "s", 1),
	line("ZADD", "z", 1, "a", 2.5, "b", 1e6, "c", "-inf", "d", 1e20, "e", 1234567.25, "f"), line("ZSCORE", "z", "a"), line("ZSCORE", "z", "b"), line("ZSCORE", "z", "c"), line("ZSCORE", "z", "d"),
	line("ZSCORE", "z", "e"), line("ZSCORE", "z", "f"), line("ZSCORE", "z", "none"), line("ZMSCORE", "z", "a", "none"), line("ZINCRBY", "z", 1, "a"), line("ZADD", "z", "INCR", 1, "a"), line("ZADD", "z", "NX", "INCR", 1, "a"),
	line("ZRANGE", "z", 0, -1), line("ZRANGE", "z", 0, -1, "WITHSCORES"), line("ZREVRANGE", "z", 0, 1, "WITHSCORES"), line("ZRANGEBYSCORE", "z", 0, 9, "WITHSCORES"),
	line("ZRANGE", "none", 0, -1, "WITHSCORES"), line("ZRANK", "z", "b"), line("ZRANK", "z", "none"), line("ZUNION", 1, "z", "WITHSCORES"), line("ZDIFF", 2, "z", "none"),
	line("ZSCAN", "z", 0), line("ZRANDMEMBER", "z", 0, "WITHSCORES"), line("ZPOPMIN", "z"), line("ZPOPMAX", "z", 2), line("ZPOPMIN", "none"), line("ZMPOP", 1, "z", "MIN", "COUNT", 2),
	line("PFADD", "hll", "a"), line("PFCOUNT", "hll"), line("PFMERGE", "hll2", "hll"), line("SETBIT", "bits", 7, 1), line("BITCOUNT", "bits"), line("BITOP", "NOT", "bits2", "bits"),
	line("BITFIELD", "bits", "GET", "u8", 0, "OVERFLOW", "FAIL", "INCRBY", "u2", 0, 9),
	line("GEOADD", "g", 13.361389, 38.115556, "p"), line("GEODIST", "g", "p", "p"), line("GEOHASH", "g", "p", "none"), line("GEOPOS", "g", "none"),
	line("XADD", "x", "1-1", "f", "v"), line("XADD", "x2", "1-1", "f", "v"), line("XLEN", "x"), line("XRANGE", "x", "-", "+"), line("XREAD", "COUNT", 5, "STREAMS", "x2", "x", 0, 0),
	line("XREAD", "STREAMS", "x", "9-9"), line("XGROUP", "CREATE", "x", "grp", "0"), line("XREADGROUP", "GROUP", "grp", "me", "STREAMS", "x", ">"), line("XPENDING", "x", "grp"), line("XACK", "x", "grp", "1-1"),
	line("XAUTOCLAIM", "x", "grp", "me", 0, 0), line("XTRIM", "x", "MAXLEN", 0),
	line("EVAL", "return {1, 'two', false, {3}, 4.9}", 0), line("EVAL", "return redis.error_reply('MINE own')", 0), line("EVAL", "return {redis.error_reply('MINE in')}", 0),
	line("EVAL", "return true", 0), line("EVAL", "return KEYS[1]", 1, "k"), line("EVALSHA", "0123456789012345678901234567890123456789", 0),
	line("SCRIPT", "LOAD", "return 1"), line("SCRIPT", "EXISTS", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"), line("SCRIPT", "FLUSH"), line("FUNCTION", "LIST"), line("FUNCTION", "FLUSH"),
	line("CONFIG", "SET", "maxmemory-policy", "noeviction"), line("CONFIG", "GET", "maxmemory-policy"), line("CONFIG", "RESETSTAT"), line("CLIENT", "KILL", "ID", "987654"), line("CLIENT", "UNPAUSE"),
	line("MEMORY", "PURGE"), line("SLOWLOG", "RESET"), line("SLOWLOG", "GET"), line("LATENCY", "RESET"), line("ACL", "WHOAMI"), line("ACL", "SETUSER", "bob"), line("ACL", "DELUSER", "bob"), line("CLUSTER", "KEYSLOT", "k"),
	line("PUBLISH", "ch", "m"), line("PUBSUB", "NUMSUB", "ch"), line("PUBSUB", "CHANNELS"), line("SWAPDB", 0, 0), line("LCS", "k", "k2"), line("SORT", "q"), line("DBSIZE"),
	line("SCAN", 0, "MATCH", "nothing*", "COUNT", 10000), line("KEYS", "nothing*"), line("KEYS", "nx"),
	// Errors.
	line("NOSUCH", "x"), line("GET"), line("KEYS"), line("INCR", "k"), line("LPUSH", "k", "x"), line("SET", "k", "v", "EX", 0), line("EXEC"), line("DISCARD"), line("EXEC", "x"), line("LINDEX", "q"),
	// Pipelines.
	line("send:SET", "p", 1), line("send:INCR", "p"), line("send:GET", "p"), line("flush"), line("receive"), line("receive"), line("receive"),
	line("send:SET", "p", 5), line("send:LPUSH", "p", 1), line("send:GET", "none"), line("send:PING"), line("all"), line("all"),
	line("send:INCR", "p"), line("INCR", "p"), line("send:LPUSH", "p", 1), line("send:NOSUCH"), line("GET", "p"), line("all"),
	line("send:INCR", "p"), line("flush"), line("send:INCR", "p"), line("all"), line("send:GET", "p"), line("flush"), line("GET", "k"),
	line("send:LPUSH", "p", 1), line("flush"), line("receive"), line("send:KEYS", "nx"), line("send:GET", "p"), line("all"),
	// Transactions.
	line("MULTI"), line("SET", "t", 1), line("INCR", "t"), line("HSET", "th", "a", "b"), line("HGETALL", "th"), line("ZADD", "tz", 1, "a"), line("ZRANGE", "tz", 0, -1, "WITHSCORES"), line("EXEC"),
	line("send:MULTI"), line("send:SET", "t", []byte("x")), line("send:PEXPIREAT", "t", 4102444800000), line("EXEC"), line("PTTL", "none"),
	line("send:MULTI"), line("send:GET", "t"), line("send:PING"), line("send:EXEC"), line("send:GET", "t"), line("all"),
	line("MULTI"), line("SET", "t", 9), line("DISCARD"), line("GET", "t"), line("MULTI"), line("EXEC"),
	line("MULTI"), line("INCR", "t"), line("LPUSH", "t", 1), line("GET", "t"), line("EXEC"), line("GET", "t"), // errors when run
	line("send:MULTI"), line("send:GET"), line("send:SET", "t", 7), line("EXEC"), line("GET", "t"), // refused when queued
	line("send:MULTI"), line("send:NOSUCH"), line("send:EXEC"), line("flush"), line("receive"), line("receive"), line("receive"),
	line("MULTI"), line("MULTI"), line("INCR", "t2"), line("EXEC"), line("MULTI"), line("WATCH", "t"), line("DISCARD"), line("MULTI", "x"), line("MULTI"), line("EXEC", "x"), line("DISCARD"),
	line("MULTI"), line("send:INCR", "t2"), line("send:EXEC"), line("flush"), line("receive"), line("receive"),
	line("FLUSHDB"), line("FLUSHALL"),
}

// The adapter's replies are those of redigo's own connection, in their types and
// bytes, for a client of either protocol.
func TestConn_likeRedigo(t *testing.T) {
	t.Parallel()
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprint("RESP", protocol), func(t *testing.T) {
			t.Parallel()
			theirs, ours := testkit.Server(t), testkit.Server(t)
			own, err := redis.Dial("tcp", theirs.Addrs()[0])
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { own.Close() })
			client := ours.Client(t, func(o *goredis.UniversalOptions) { o.Protocol = protocol })
			view := newPool(t, client).Get()
			t.Cleanup(func() { view.Close() })

			want, got := play(t, own, same), play(t, view, same)
			for i, s := range same {
				if !reflect.DeepEqual(got[i], want[i]) {
					t.Errorf("%v:\n got %s\nwant %s", s, got[i], want[i])
				}
			}
			t.Logf("%d steps compared", len(same))
		})
	}
}

// Where the adapter cannot say what redigo's own connection says, and how it differs.
func TestConn_unlikeRedigo(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	own, err := redis.Dial("tcp", b.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Close() })
	view := newPool(t, b.Client(t)).Get()
	t.Cleanup(func() { view.Close() })
	prepare := []step{
		line("HSET", "h", "zz", 1, "aa", 2), line("GEOADD", "g", 13.361389, 38.115556, "p"), line("ZADD", "z", 0.1, "a"), line("SET", "k", "ohmytext"), line("SET", "k2", "mynewtext"),
	}
	play(t, own, prepare)

	for _, tc := range []struct {
		why  string
		step step
		like func(theirs, ours any) bool
	}{
		{"maps of RESP3 have no order", line("HGETALL", "h"), sameMap},
		{"maps of RESP3 have no order", line("LCS", "k", "k2", "IDX"), sameMap},
		{"a script's status passes for a bulk string", line("EVAL", "return redis.status_reply('FINE')", 0), sameText},
		{"a status within an array passes for a bulk string", line("EVAL", "return {redis.status_reply('FINE')}", 0), sameText},
		{"doubles come through float64", line("GEOPOS", "g", "p"), sameNumbers},
		{"doubles have as many digits as they need (from Redis 7.2 on redigo's, too)", line("ZSCORE", "z", "a"), sameNumbers},
	} {
		theirs, err1 := own.Do(tc.step[0].(string), tc.step[1:]...)
		ours, err2 := view.Do(tc.step[0].(string), tc.step[1:]...)
		if err1 != nil || err2 != nil || !tc.like(theirs, ours) {
			t.Errorf("%v: got %s, %v; want the like of %s, %v (%s)", tc.step, show(ours), err2, show(theirs), err1, tc.why)
		}
		t.Logf("%v: %s; redigo: %s: %s", tc.step, show(ours), show(theirs), tc.why)
	}

	// What is sent after MULTI stays here until EXEC, so that the server's refusal of
	// a command comes with EXEC, unless the command's own reply is still to come.
	for _, tc := range []struct {
		conn redis.Conn
		want string
	}{{own, `error "ERR`}, {view, `status "QUEUED"`}} {
		got := play(t, tc.conn, []step{line("MULTI"), line("NOSUCH"), line("INCR", "n"), line("EXEC"), line("EXISTS", "n")})
		if !strings.HasPrefix(show(got[1].reply), tc.want) || !strings.HasPrefix(string(got[3].err), "EXECABORT") || got[4].reply != int64(0) {
			t.Errorf("a refused command: got %v; want %s and EXECABORT", got, tc.want)
		}
	}

	// redigo would wait for a reply that cannot come, here until its timeout.
	if _, err := view.Receive(); err == nil {
		t.Error("Receive of nothing: got no error")
	}
}

func sameMap(a, b any) bool {
	as, bs := a.([]any), b.([]any)
	if len(as) != len(bs) {
		return false
	}
	index := func(list []any) map[string]any {
		m := make(map[string]any)
		for pair := range slices.Chunk(list, 2) {
			m[show(pair[0])] = pair[1]
		}
		return m
	}
	return reflect.DeepEqual(index(as), index(bs))
}

func sameText(a, b any) bool {
	if list, ok := a.([]any); ok {
		return sameText(list[0], b.([]any)[0])
	}
	return a.(string) == string(b.([]byte))
}

func sameNumbers(a, b any) bool {
	if list, ok := a.([]any); ok {
		for i := range list {
			if !sameNumbers(list[i], b.([]any)[i]) {
				return false
			}
		}
		return true
	}
	x, err1 := redis.Float64(a, nil)
	y, err2 := redis.Float64(b, nil)
	return err1 == nil && err2 == nil && x == y
}
