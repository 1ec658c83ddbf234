package stick

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"sportello.example/firmware/release"
	"sportello.example/sync/desired"
	"sportello.example/sync/wire"
)

// Answer is what a hub writes on a stick for a box.
type Answer struct {
	Box     uint32
	Answers string // ID of the file of events that it answers, "" when none
	Key     ed25519.PrivateKey
	Now     func() time.Time

	Replies []wire.Reply    // to the batches that came, or what is known now
	State   *desired.Signed // desired state, nil when there is none
	Blobs   []desired.Blob  // files of the desired state that go along
	// Blob opens one of them.
	Blob func(sha256 string) (io.ReadCloser, error)
}

// blobPiece is how much of a blob is in one part, in bytes.
const blobPiece = 4 << 20

// Prepare returns the header of the file that Write will write, for its name.
func (a Answer) Prepare() Header {
	return Header{
		Kind: Reply, ID: newID(), Box: a.Box, Made: a.Now().UTC().Truncate(time.Second),
		Release: release.Current().String(), Answers: a.Answers,
	}
}

// Write writes the answer.
func (a Answer) Write(w io.Writer, h Header) error {
	f, err := create(w, h)
	if err != nil {
		return err
	}
	for _, r := range a.Replies {
		if err := f.json(partAcks, r); err != nil {
			return err
		}
	}
	if a.State != nil {
		if err := f.json(partDesired, a.State); err != nil {
			return err
		}
	}
	for _, b := range a.Blobs {
		if err := a.blob(f, b); err != nil {
			return fmt.Errorf("content %s: %w", b.Name, err)
		}
	}
	return f.close(func(sum [32]byte) ([]byte, error) { return ed25519.Sign(a.Key, sum[:]), nil })
}

func (a Answer) blob(f *writer, b desired.Blob) error {
	sum, err := hex.DecodeString(b.SHA256)
	if err != nil || len(sum) != sha256.Size {
		return fmt.Errorf("%w: name of a blob", ErrMalformed)
	}
	r, err := a.Blob(b.SHA256)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	buf := make([]byte, sha256.Size+blobPiece)
	copy(buf, sum)
	for {
		n, err := io.ReadFull(r, buf[sha256.Size:])
		if n > 0 {
			if err := f.part(partBlob, buf[:sha256.Size+n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// json writes v as a compressed part.
func (f *writer) json(kind byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("part: %w", err)
	}
	if b, err = wire.Zip(b); err != nil {
		return err
	}
	return f.part(kind, b)
}

// Check checks that one of the hub's keys signed a reply for box. It fails with ErrKind, ErrBox or ErrSignature.
func (f *File) Check(box uint32, keys []ed25519.PublicKey) error {
	switch {
	case f.Header.Kind != Reply:
		return ErrKind
	case f.Header.Box != box:
		return fmt.Errorf("%w: it is for box %d, this is box %d", ErrBox, f.Header.Box, box)
	}
	for _, k := range keys {
		if len(k) == ed25519.PublicKeySize && ed25519.Verify(k, f.sum[:], f.sig) {
			return nil
		}
	}
	return ErrSignature
}

// Replies calls do with the acknowledgements in a reply, in order. They are signed one by one, like those that come by
// the line.
func (f *File) Replies(do func(wire.Reply) error) error {
	return f.each(func(kind byte, b []byte) error {
		if kind != partAcks {
			return nil
		}
		var r wire.Reply
		if err := unjson(b, wire.MaxJSON, &r); err != nil {
			return err
		}
		return do(r)
	})
}

// ErrNone means that a file does not hold what was asked for.
var ErrNone = errors.New("the file holds none")

// State returns the desired state in a reply, as it was signed. It fails with ErrNone.
func (f *File) State() (desired.Signed, error) {
	var s desired.Signed
	found := false
	err := f.each(func(kind byte, b []byte) error {
		if kind != partDesired {
			return nil
		}
		found = true
		return unjson(b, 2*desired.MaxDocument, &s) // its body is in base 64
	})
	if err == nil && !found {
		err = ErrNone
	}
	return s, err
}

// Blob writes the blob of this SHA-256 in a reply to w, without checking that it is that one. It fails with ErrNone.
func (f *File) Blob(sum string, w io.Writer) error {
	want, err := hex.DecodeString(sum)
	if err != nil || len(want) != sha256.Size {
		return fmt.Errorf("%w: name of a blob", ErrMalformed)
	}
	found, size := false, int64(0)
	err = f.each(func(kind byte, b []byte) error {
		if kind != partBlob || len(b) < sha256.Size || !bytes.Equal(b[:sha256.Size], want) {
			return nil
		}
		found = true
		if size += int64(len(b) - sha256.Size); size > desired.MaxBlob {
			return fmt.Errorf("%w: blob", ErrMalformed)
		}
		_, err := w.Write(b[sha256.Size:])
		return err
	})
	if err == nil && !found {
		err = ErrNone
	}
	return err
}

func unjson(b []byte, limit int, v any) error {
	b, err := wire.Unzip(b, limit)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}
