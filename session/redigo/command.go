package redigo

import (
	"strings"

	redigo "github.com/gomodule/redigo/redis"
)

// What a command's name tells. The lists follow Redis 8's.

// set is a set of words.
type set map[string]struct{}

func words(list string) set {
	s := make(set)
	for _, w := range strings.Fields(list) {
		s[w] = struct{}{}
	}
	return s
}

func (s set) has(word string) bool {
	_, ok := s[word]
	return ok
}

var (
	subscribing = words("subscribe psubscribe ssubscribe unsubscribe punsubscribe sunsubscribe")
	streaming   = words("monitor sync psync replconf")
	watching    = words("watch unwatch")
	blocking    = words("blpop brpop brpoplpush blmove blmpop bzpopmin bzpopmax bzmpop wait waitaof")
	stateful    = words("select auth hello quit reset readonly readwrite asking")
	ofClient    = words("reply setname setinfo tracking caching no-evict no-touch")

	// keyless commands name no key; with a Cluster they go where chance says.
	keyless = words(`acl asking bgrewriteaof bgsave client cluster command config dbsize debug echo
		failover flushall flushdb function info keys lastsave latency lolwut module ping publish
		pubsub randomkey replicaof role save scan script shutdown slaveof slowlog swapdb time`)
)

// refusalOf says why a command cannot be run here and what to use instead; it is ""
// if it can.
func refusalOf(c *call, sharded, inMulti bool) redigo.Error {
	name := strings.ToUpper(c.name)
	switch {
	case watching.has(c.name) && inMulti && c.name == "watch":
		return "ERR WATCH inside MULTI is not allowed"
	case watching.has(c.name):
		return redigo.Error("ERR " + name + " needs a connection of its own, and this one is a view of a shared client: use a script (redigo.NewScript), or Watch of the go-redis client")
	case subscribing.has(c.name):
		return redigo.Error("ERR " + name + " needs a connection of its own, and this one is a view of a shared client: use Subscribe of the go-redis client")
	case streaming.has(c.name):
		return redigo.Error("ERR " + name + " needs a connection of its own, and this one is a view of a shared client: dial one with redigo.Dial")
	case blocking.has(c.name), (c.name == "xread" || c.name == "xreadgroup") && c.has(1, "block", "streams"):
		return redigo.Error("ERR " + name + " waits longer than a call here may take: use the form that does not block, or the go-redis client itself")
	case stateful.has(c.name), c.name == "client" && ofClient.has(c.sub()):
		return redigo.Error("ERR " + name + " changes a connection, and those behind this one are shared: set it in the options of the go-redis client")
	case c.name == "keys" && len(c.args) != 2:
		return "ERR wrong number of arguments for 'keys' command"
	case c.name == "keys" && inMulti:
		return "ERR KEYS is a SCAN in steps here, which a transaction cannot hold: run it before MULTI"
	case c.name == "scan" && sharded:
		return "ERR SCAN has a cursor that means something to one server, and the keys lie on several: use KEYS, which is a SCAN of every master here"
	}
	return ""
}

// concernsAll reports whether a keyless command is for every master: it is about all
// keys, or changes what each server keeps for itself.
func concernsAll(c *call) bool {
	switch c.name {
	case "dbsize", "flushdb", "flushall":
		return true
	case "script":
		return c.sub() == "load" || c.sub() == "flush"
	case "function":
		return words("load delete flush restore").has(c.sub())
	case "config":
		return words("set resetstat rewrite").has(c.sub())
	}
	return false
}

// keyOf is the command's first key, "" if it has none. It says which server's
// breaker is in charge; go-redis finds the way by itself.
func keyOf(c *call) string {
	if keyless.has(c.name) {
		return ""
	}
	switch c.name {
	case "eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro":
		if c.arg(2) == "0" {
			return ""
		}
		return c.arg(3)
	case "object", "memory", "xinfo", "xgroup", "bitop", "lmpop", "zmpop", "sintercard", "zintercard", "zunion", "zinter", "zdiff":
		return c.arg(2)
	case "migrate":
		return c.arg(3)
	case "xread", "xreadgroup":
		return c.arg(c.after("streams"))
	}
	return c.arg(1)
}

var (
	// statuses reply with a status, never with a bulk string of the user's.
	statuses = words(`asking bgrewriteaof bgsave debug failover flushall flushdb hmset lset ltrim migrate
		mset pfmerge psetex rename replicaof restore save setex slaveof swapdb type xsetid`)

	// containers have subcommands, whose only status is OK.
	containers = words("acl client cluster config function memory module script slowlog xgroup")

	// pairing commands reply with pairs under RESP3, where RESP2 has a flat list.
	pairing = words(`hrandfield zdiff zinter zpopmax zpopmin zrandmember zrange zrangebyscore zrevrange
		zrevrangebyscore zunion`)
)

// isStatus reports whether text, the reply to c, came as a status, which redigo gives
// as a string, or in bulk, which it gives as a []byte. go-redis does not tell.
func isStatus(c *call, text string) bool {
	switch {
	case c.name == "set":
		return text == "OK" && !c.has(3, "get", "")
	case c.name == "ping":
		return len(c.args) == 1
	case containers.has(c.name):
		return text == "OK"
	}
	return statuses.has(c.name)
}
