package testkit

import "bufio"

// ReadReply and ReadCommand are the proxy's parsers, for the fuzz tests.
func ReadReply(r *bufio.Reader) (frame []byte, kind byte, err error) { return readReply(r) }

func ReadCommand(r *bufio.Reader) (raw []byte, name string, err error) {
	cmd, err := readCommand(r)
	return cmd.raw, cmd.name, err
}
