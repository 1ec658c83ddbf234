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
	// With the cap as the limit, the decoder cannot allocate more. A frame that does not say how long it is (a short one
	// does not) gets a little, and more when that was not enough: a few bytes must not cost the whole limit.
	for size := guess(b, limit); ; size = min(max(1<<10, 4*size), limit) {
		out, err := d.(*zstd.Decoder).DecodeAll(b, make([]byte, 0, size))
		switch {
		case err == nil:
			return out, nil
		case size == limit || !errors.Is(err, zstd.ErrDecoderSizeExceeded):
			return nil, fmt.Errorf("%w: %w", ErrZip, err)
		}
	}
}

// guess returns how many bytes b says it decompresses to, a few times its own length when it does not say or says too
// much; never more than limit.
func guess(b []byte, limit int) int {
	var h zstd.Header
	if err := h.Decode(b); err == nil && h.HasFCS && h.FrameContentSize <= uint64(limit) { //nolint:gosec // limits are positive
		return int(h.FrameContentSize) //nolint:gosec // at most limit
	}
	return min(limit, max(1<<10, 8*len(b)))
}
