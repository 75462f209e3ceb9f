package event

import (
	"fmt"
	"strings"

	"github.com/go-weir/weir/internal/rdb"
)

// Pattern is the topics, with events of one type, whose names match a pattern. It is
// safe for concurrent use, holds nothing and needs no end.
type Pattern[T any] struct {
	bus     *Bus
	channel string
}

// NewPattern returns the topics whose names match pattern, those to come included. It
// is a glob of Redis's: "*" stands for any characters, also none and dots, "?" for one,
// "[ab]" for one of these, "[^ab]" for one that is none of these, "[a-z]" for one of
// these. Else it consists of what names do: letters, digits and "-_.". It has at most 64
// characters.
//
// Redis compares each event with each pattern that somebody is subscribed to: they are
// for a few, not for thousands. It does no I/O. Errors are of kind ErrConfig.
func NewPattern[T any](bus *Bus, pattern string) (*Pattern[T], error) {
	var mistakes []error
	if bus == nil {
		mistakes = append(mistakes, errBus)
	}
	if !validPattern(pattern) {
		mistakes = append(mistakes, fmt.Errorf("pattern %q: use 1 to 64 letters, digits, \"-_.\", and \"*\", \"?\", \"[ab]\", \"[^ab]\" and \"[a-z]\"", pattern))
	}
	if err := rdb.Misconfigured("event.NewPattern", mistakes...); err != nil {
		return nil, err
	}
	return &Pattern[T]{bus: bus, channel: bus.channelOf(pattern)}, nil
}

// Subscribe hears what is published on all matching topics from now on, as
// [Topic.Subscribe] does on one. [Event.Topic] says which it was.
func (p *Pattern[T]) Subscribe(options ...SubscribeOption) (*Subscription[T], error) {
	return subscribe[T](p.bus, p.channel, true, options)
}

// validPattern reports whether pattern is one of topics' names.
func validPattern(pattern string) bool {
	if len(pattern) > 64 {
		return false
	}
	plain := strings.NewReplacer("*", "x", "?", "x").Replace(pattern)
	for {
		before, rest, found := strings.Cut(plain, "[")
		if !found {
			return plain == "" && pattern != "" || validName(plain)
		}
		class, after, found := strings.Cut(strings.TrimPrefix(rest, "^"), "]")
		if !found || !validName(class) || before != "" && !validName(before) {
			return false
		}
		plain = after
	}
}

// channel is the channel of the topic called name.
func (b *Bus) channel(name string) string { return rdb.Key(b.prefix, "event", name) }

// channelOf is the channels of those that match pattern. Names are never hashed, so it
// is built as they are.
func (b *Bus) channelOf(pattern string) string { return b.prefix + ":event:{" + pattern + "}" }

// topicOf is the name of the topic of a channel.
func (b *Bus) topicOf(channel string) string {
	name := strings.TrimPrefix(channel, b.prefix+":event:{")
	return strings.TrimSuffix(name, "}")
}
