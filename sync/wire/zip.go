package wire

import (
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Encoding is the content coding of batches (RFC 8878).
const Encoding = "zstd"

// ErrZip means that bytes are not zstd, or more than the reader wants.
var ErrZip = errors.New("not zstd, or too long")

var encoder = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
})

// Zip compresses b. It is safe for concurrent use.
func Zip(b []byte) ([]byte, error) {
	z, err := encoder()
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return z.EncodeAll(b, make([]byte, 0, len(b)/4)), nil
}

// decoders by the limit they were made for: there are two or three.
var decoders sync.Map

// Unzip decompresses what Zip made, up to limit bytes: a bomb fails before it has grown. It fails with ErrZip, and is
// safe for concurrent use.
func Unzip(b []byte, limit int) ([]byte, error) {
	d, ok := decoders.Load(limit)
	if !ok {
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(uint64(limit)), zstd.WithDecodeAllCapLimit(true)) //nolint:gosec // limits are small and positive
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		d, _ = decoders.LoadOrStore(limit, z)
	}
	// With the cap as the limit, the decoder cannot allocate more; it starts small when the frame says how long it is.
	out, err := d.(*zstd.Decoder).DecodeAll(b, make([]byte, 0, guess(b, limit)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrZip, err)
	}
	return out, nil
}

// guess returns how many bytes b says it decompresses to, limit when it does not say or says too much.
func guess(b []byte, limit int) int {
	var h zstd.Header
	if err := h.Decode(b); err == nil && h.HasFCS && h.FrameContentSize <= uint64(limit) { //nolint:gosec // limits are positive
		return int(h.FrameContentSize) //nolint:gosec // at most limit
	}
	return limit
}
