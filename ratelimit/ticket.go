package ratelimit

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"
)

// Ticket stands for one admission, in every process: it may be stored, or sent
// along to another. It is printable, has at most 60 characters, and holds nothing of
// the key. Take none from a client: it is not signed, and whoever can guess the id
// of somebody's admission of the same key could refund it.
type Ticket string

// ticket is a Ticket taken apart.
type ticket struct {
	local bool  // the stand-in's admission, of this process only
	at    int64 // µs since 1970
	cost  int
	id    string
}

// ticketIDs bounds an id's length, so that whoever hands in a Ticket cannot make
// Redis keep what they like.
const ticketIDs = 24

func newTicket(id string, at time.Time, cost int, source Source) Ticket {
	buf := make([]byte, 0, 1+2*binary.MaxVarintLen64+ticketIDs)
	buf = append(buf, byte(source))
	buf = binary.AppendVarint(buf, at.UnixMicro())
	buf = binary.AppendUvarint(buf, uint64(cost))
	buf = append(buf, id...)
	return Ticket(base64.RawURLEncoding.EncodeToString(buf))
}

func (t Ticket) open() (ticket, error) {
	buf, err := base64.RawURLEncoding.DecodeString(string(t))
	if err != nil || len(buf) < 4 {
		return ticket{}, fmt.Errorf("%w: hand in what Result.Ticket returned", ErrTicket)
	}
	source, rest := Source(buf[0]), buf[1:]
	at, n := binary.Varint(rest)
	if n <= 0 {
		return ticket{}, fmt.Errorf("%w: it has no instant", ErrTicket)
	}
	rest = rest[n:]
	cost, n := binary.Uvarint(rest)
	if n <= 0 || cost < 1 || cost > maxRequests {
		return ticket{}, fmt.Errorf("%w: it has no cost", ErrTicket)
	}
	rest = rest[n:]
	if len(rest) == 0 || len(rest) > ticketIDs {
		return ticket{}, fmt.Errorf("%w: it has no id", ErrTicket)
	}
	return ticket{source == FromStandin, at, int(cost), string(rest)}, nil
}
