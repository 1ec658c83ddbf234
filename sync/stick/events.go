package stick

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"sportello.example/firmware/release"
	"sportello.example/sync/envelope"
	"sportello.example/sync/outbox"
	"sportello.example/sync/seal"
	"sportello.example/sync/wire"
)

// Queue is what Export reads: the methods of outbox.Queue that change nothing.
type Queue interface {
	Chains(ctx context.Context) ([]outbox.Chain, error)
	Read(ctx context.Context, c envelope.Chain, after uint64, events, bytes int) (envelope.Run, error)
}

// Signer is the box that signs: identity.Identity.
type Signer interface {
	// Sign signs a SHA-256 with the key of the box's certificate (DER), which it returns too.
	Sign(sum [32]byte) (sig, certificate []byte, err error)
}

// Export is what a box writes on a stick.
type Export struct {
	Box    uint32
	Queue  Queue
	Signer Signer
	Key    []byte // X25519 public key of the hub
	// Report says how the box and its queue are, for the hub's people; nil: nothing is said.
	Report func(ctx context.Context) (wire.Report, error)
	Now    func() time.Time
	Limit  int64 // bytes of the file, about; 0: MaxFile
}

// Summary says what is in a file of events.
type Summary struct {
	Header Header
	Events uint64 // numbers of chains that it covers
	Rest   bool   // there is more than fitted
	Bytes  int64
}

// maxRead is how many bytes of envelopes are read at once: a batch compresses no better beyond.
const maxRead = 4 << 20

// Prepare returns the header of the file that WriteTo will write, for its name.
func (e Export) Prepare() (Header, error) {
	_, cert, err := e.Signer.Sign([32]byte{})
	if err != nil {
		return Header{}, err
	}
	return Header{
		Kind: Events, ID: newID(), Box: e.Box, Made: e.Now().UTC().Truncate(time.Second),
		Release: release.Current().String(), Certificate: cert,
	}, nil
}

// Write writes all events that the hub has not acknowledged, with a header from Prepare. The queue stays as it is: only
// the hub's reply moves it.
func (e Export) Write(ctx context.Context, w io.Writer, h Header) (Summary, error) {
	out := Summary{Header: h}
	sealer := seal.NewSealer(e.Now)
	if err := sealer.Use(e.Key); err != nil {
		return out, err
	}
	limit := e.Limit
	if limit <= 0 || limit > MaxFile-maxPart {
		limit = MaxFile - maxPart
	}
	f, err := create(w, h)
	if err != nil {
		return out, err
	}
	if e.Report != nil {
		r, err := e.Report(ctx)
		if err != nil {
			return out, fmt.Errorf("report: %w", err)
		}
		b, err := json.Marshal(r)
		if err != nil {
			return out, fmt.Errorf("report: %w", err)
		}
		if err := sealPart(f, sealer, partReport, aad(h, reportIndex), b); err != nil {
			return out, err
		}
	}
	chains, err := e.Queue.Chains(ctx)
	if err != nil {
		return out, fmt.Errorf("read queue: %w", err)
	}
	index := uint32(0)
	for _, c := range chains {
		for after := c.Cursor; ; {
			run, err := e.Queue.Read(ctx, c.Chain, after, envelope.MaxEvents, maxRead)
			if err != nil {
				return out, fmt.Errorf("read queue: %w", err)
			}
			if len(run.Entries) == 0 {
				break
			}
			if f.bytes >= limit {
				out.Rest = true
				break
			}
			b, err := envelope.Batch{Box: e.Box, Runs: []envelope.Run{run}}.Append(nil)
			if err != nil {
				return out, err
			}
			if err := sealPart(f, sealer, partBatch, aad(h, index), b); err != nil {
				return out, err
			}
			out.Events += run.Last() - run.First + 1
			after = run.Last()
			index++
		}
	}
	err = f.close(func(sum [32]byte) ([]byte, error) {
		sig, _, err := e.Signer.Sign(sum)
		return sig, err
	})
	out.Bytes = f.bytes
	return out, err
}

// sealPart compresses b, closes it to the hub's key and writes it.
func sealPart(f *writer, s *seal.Sealer, kind byte, aad, b []byte) error {
	b, err := wire.Zip(b)
	if err != nil {
		return err
	}
	if b, err = s.Seal(aad, b); err != nil {
		return err
	}
	return f.part(kind, b)
}

// reportIndex is the place of the report, which no batch has.
const reportIndex = 1<<32 - 1

// aad binds a sealed part to its place in its file.
func aad(h Header, index uint32) []byte {
	b := append([]byte("sportello/stick/v1|"+h.ID), 0, 0, 0, 0, 0, 0, 0, 0)
	binary.BigEndian.PutUint32(b[len(b)-8:], h.Box)
	binary.BigEndian.PutUint32(b[len(b)-4:], index)
	return b
}

// Signer returns the certificate whose key signed a file of events; whether that is a certificate of the box
// Header.Box is for the caller to say. It fails with ErrKind or ErrSignature.
func (f *File) Signer() (*x509.Certificate, error) {
	if f.Header.Kind != Events {
		return nil, ErrKind
	}
	cert, err := x509.ParseCertificate(f.Header.Certificate)
	if err != nil {
		return nil, fmt.Errorf("%w: no certificate", ErrSignature)
	}
	pub, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || !ecdsa.VerifyASN1(pub, f.sum[:], f.sig) {
		return nil, ErrSignature
	}
	return cert, nil
}

// Report returns what the box says of itself in a file of events. It fails with ErrNone when it says nothing, with
// ErrMalformed, or with seal.ErrOpen.
func (f *File) Report(ring seal.Ring) (r wire.Report, err error) {
	found := false
	err = f.each(func(kind byte, b []byte) error {
		if kind != partReport {
			return nil
		}
		found = true
		plain, err := ring.Open(aad(f.Header, reportIndex), b)
		if err != nil {
			return err
		}
		return unjson(plain, wire.MaxJSON, &r)
	})
	if err == nil && !found {
		err = ErrNone
	}
	return r, err
}

// Batches calls do with the batches of a file of events, in order. It fails with ErrMalformed, with seal.ErrOpen when
// the file was closed to a key that is not in ring, or with what do returned.
func (f *File) Batches(ring seal.Ring, do func(envelope.Batch) error) error {
	if f.Header.Kind != Events {
		return ErrKind
	}
	index := uint32(0)
	return f.each(func(kind byte, b []byte) error {
		if kind != partBatch {
			return nil // of a later version
		}
		plain, err := ring.Open(aad(f.Header, index), b)
		if err != nil {
			return err
		}
		index++
		if plain, err = wire.Unzip(plain, envelope.MaxBatch); err != nil {
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		batch, err := envelope.ParseBatch(plain)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if batch.Box != f.Header.Box {
			return ErrBox
		}
		return do(batch)
	})
}
