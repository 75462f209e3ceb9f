// Package codec turns values into bytes and back, for the engines that keep or send
// values of their users' types.
package codec

import (
	"bytes"
	"encoding/gob"
	"encoding/json"

	"github.com/vmihailenco/msgpack/v5"
)

// Codec turns a value into bytes and back. Decode gets a pointer to what Encode got.
// It must be safe for concurrent use, and Decode must not keep data.
type Codec interface {
	Encode(v any) ([]byte, error)
	Decode(data []byte, v any) error
}

// JSON is encoding/json.
type JSON struct{}

// Encode is json.Marshal.
func (JSON) Encode(v any) ([]byte, error) { return json.Marshal(v) }

// Decode is json.Unmarshal.
func (JSON) Decode(data []byte, v any) error { return json.Unmarshal(data, v) }

// Gob is encoding/gob, each value by itself: with the description of its type.
type Gob struct{}

// Encode writes one gob stream.
func (Gob) Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(v)
	return b.Bytes(), err
}

// Decode reads one gob stream.
func (Gob) Decode(data []byte, v any) error { return gob.NewDecoder(bytes.NewReader(data)).Decode(v) }

// MessagePack is vmihailenco/msgpack/v5.
type MessagePack struct{}

// Encode is msgpack.Marshal.
func (MessagePack) Encode(v any) ([]byte, error) { return msgpack.Marshal(v) }

// Decode is msgpack.Unmarshal.
func (MessagePack) Decode(data []byte, v any) error { return msgpack.Unmarshal(data, v) }
