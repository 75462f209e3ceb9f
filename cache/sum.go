package cache

import (
	"encoding/binary"
	"errors"
	"unsafe"
)

var errAltered = errors.New("it is not what was stored")

// seal puts its checksum before a variant's data: bytes that something has altered are no
// answer to anybody.
func seal(data []byte) []byte {
	sealed := make([]byte, sumBytes, sumBytes+len(data))
	binary.BigEndian.PutUint32(sealed, sumOf("", 0, data))
	return append(sealed, data...)
}

// unseal returns the data, if it is what was sealed.
func unseal(stored string) (data string, err error) {
	bytes := unsafe.Slice(unsafe.StringData(stored), len(stored)) // to read, not to copy it
	if len(stored) < sumBytes || sumOf("", 0, bytes[sumBytes:]) != binary.BigEndian.Uint32(bytes) {
		return "", errAltered
	}
	return stored[sumBytes:], nil
}
