package event

import "github.com/go-weir/weir/internal/codec"

// Codec turns events into bytes and back; [JSON], [Gob] and [MessagePack] are some.
// Decode gets a pointer to a value of the topic's or stream's type. A Codec must be safe
// for concurrent use, and Decode must not keep data.
type Codec = codec.Codec

// The codecs that come with the package.
var (
	JSON        Codec = codec.JSON{}
	Gob         Codec = codec.Gob{}
	MessagePack Codec = codec.MessagePack{}
)

var defaultCodec = JSON
