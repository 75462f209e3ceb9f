package session

import "time"

// What the tests of the codecs see of the package's inside.

type (
	GobCodec = gobCodec
	Ring     = ring
)

var NewRing = newRing

func (r *ring) Seal(plain []byte, name string) ([]byte, error)  { return r.seal(plain, name) }
func (r *ring) Open(sealed []byte, name string) ([]byte, error) { return r.open(sealed, name) }

// GobItself reports whether a record is read without encoding/gob.
func GobItself(record []byte) bool {
	_, _, err := readGob(record, ownForm())
	return err == nil
}

// GobElsewhere encodes as a binary does whose three types have these numbers.
func GobElsewhere(ids [3]int64, mapName string, deadline time.Time, values map[string]any) ([]byte, bool) {
	f := gobForm{definitions(ids, mapName), ids[0], ids[1]}
	return f.encode(deadline, values)
}

// GobUint is how gob writes a number.
func GobUint(x uint64) []byte { return appendGobUint(nil, x) }

// OpenXAES opens a message of XAES-256-GCM, without the ring's header.
func OpenXAES(key, nonce, ciphertext, associated []byte) ([]byte, error) {
	var k sealKey
	if err := k.init(key); err != nil {
		return nil, err
	}
	aead, err := k.derive(nonce[:nonceSize/2])
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, nil, append(nonce[nonceSize/2:len(nonce):len(nonce)], ciphertext...), associated)
}
