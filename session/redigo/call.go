package redigo

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	redigo "github.com/gomodule/redigo/redis"

	"github.com/go-weir/weir/internal/rdb"
)

// call is a command that was sent, and after its run the reply.
type call struct {
	name string // in lower case
	args []any  // all strings; the name as it was written first

	reply any
	err   error // a redigo.Error, *replied, or another if lost
	lost  bool  // there is no reply
}

// newCall takes what redigo's Do and Send are given. Text is copied, and numbers are
// written as redigo writes them (writeArg): the caller may use its bytes again, also
// while an attempt that was left behind still reads ours.
func newCall(name string, args []any) *call {
	c := &call{name: strings.ToLower(name), args: make([]any, 1, len(args)+1)}
	c.args[0] = name
	for _, a := range args {
		c.args = append(c.args, textOf(a, true))
	}
	return c
}

func textOf(a any, mayAsk bool) string {
	switch a := a.(type) {
	case string:
		return a
	case []byte:
		return string(a)
	case int:
		return strconv.Itoa(a)
	case int64:
		return strconv.FormatInt(a, 10)
	case float64:
		return strconv.FormatFloat(a, 'g', -1, 64)
	case bool:
		if a {
			return "1"
		}
		return "0"
	case nil:
		return ""
	case redigo.Argument:
		if mayAsk {
			return textOf(a.RedisArg(), false)
		}
	}
	return fmt.Sprint(a)
}

// arg is the i-th argument, the name being the 0th, or "".
func (c *call) arg(i int) string {
	if i >= len(c.args) {
		return ""
	}
	return c.args[i].(string)
}

// sub is the subcommand, in lower case.
func (c *call) sub() string { return strings.ToLower(c.arg(1)) }

// has reports whether one of the arguments from i on, up to the word before, is word.
func (c *call) has(i int, word, before string) bool {
	for ; i < len(c.args); i++ {
		switch a := c.arg(i); {
		case strings.EqualFold(a, word):
			return true
		case before != "" && strings.EqualFold(a, before):
			return false
		}
	}
	return false
}

// after is the place behind word among the arguments, or behind all of them.
func (c *call) after(word string) int {
	for i := 1; i < len(c.args); i++ {
		if strings.EqualFold(c.arg(i), word) {
			return i + 1
		}
	}
	return len(c.args)
}

func (c *call) answer(reply any)         { c.reply, c.err, c.lost = reply, nil, false }
func (c *call) refuse(text redigo.Error) { c.reply, c.err, c.lost = nil, text, false }
func (c *call) lose(err error)           { c.reply, c.err, c.lost = nil, err, true }

// plan is the command for rdb. key is one of the server it goes to.
func (c *call) plan(key string) *rdb.Cmd { return rdb.NewCmd(key, c.args...) }

// settle takes the outcome of a plan, and returns the error if there is no reply.
func (c *call) settle(cmd *rdb.Cmd) error {
	if err := cmd.Err(); err != nil {
		return c.fail(err)
	}
	c.answer(convert(c, cmd.Val()))
	return nil
}

// fail gives the call rdb's error, and returns its own if there is no reply.
func (c *call) fail(err error) error {
	mine, answered := failureOf(err)
	c.reply, c.err, c.lost = nil, mine, !answered
	if answered {
		return nil
	}
	return mine
}

// element is the reply as it stands in an array, where errors are values.
func (c *call) element() any {
	if c.err == nil {
		return c.reply
	}
	var e redigo.Error
	if errors.As(c.err, &e) {
		return e
	}
	return nil
}
