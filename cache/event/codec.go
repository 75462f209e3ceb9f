package event

import "encoding/json"

// Codec turns values into bytes and back. Decode is given a pointer to the type that
// the topic or stream is of, and must not keep data. Both are called from several
// goroutines at once.
type Codec interface {
	Encode(v any) ([]byte, error)
	Decode(data []byte, v any) error
}

// jsonCodec is encoding/json.
type jsonCodec struct{}

func (jsonCodec) Encode(v any) ([]byte, error)    { return json.Marshal(v) }
func (jsonCodec) Decode(data []byte, v any) error { return json.Unmarshal(data, v) }

var defaultCodec Codec = jsonCodec{}
