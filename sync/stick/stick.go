// Package stick is the file that carries events and answers between a box and its hub where there is no line at all: on a
// USB stick, in somebody's pocket.
//
// A box writes what the hub has not acknowledged, closed to the hub's key and signed with the key of its certificate: who
// finds the stick learns nothing, and nobody else can write one. The hub takes the batches in as if they had come by the
// line and writes a reply, the same signed acknowledgements and the desired state that the line would have brought. So
// either file may come late, twice, or beside the line, and none may be lost with more harm than having to go again.
//
// A file is a line that says what it is, a header in JSON, parts, and a signature over all before it. Integers are
// big-endian. Whatever is not whole, a stick that was pulled too early, is noticed before anything of it is used.
package stick

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
)

// Limits of what is written and read.
const (
	MaxFile   = 512 << 20 // bytes of a file
	maxPart   = 16 << 20  // bytes of a part
	maxHeader = 64 << 10  // bytes of a header
	maxSig    = 1 << 10   // bytes of a signature
)

// magic begins every file. Its digit is the version of the frame.
const magic = "SPORTELLO STICK 1\n"

var (
	// ErrForeign means that a file is no file of this package.
	ErrForeign = errors.New("not a file of a box or a hub")
	// ErrCut means that the end of a file is missing.
	ErrCut = errors.New("the end of the file is missing: the stick was full, or was pulled too early")
	// ErrMalformed means that a file holds what it cannot hold, or too much of it.
	ErrMalformed = errors.New("the file is damaged")
	// ErrLong means that there is more to write than a file can hold.
	ErrLong = errors.New("more than fits into one file")
	// ErrKind means that a file goes the other way: a reply was given to a hub, or events to a box.
	ErrKind = errors.New("the file goes the other way")
	// ErrBox means that a file is for another box, or says that it is from another one than signed it.
	ErrBox = errors.New("the file belongs to another box")
	// ErrSignature means that a file was not signed by whom it should be, or was changed since.
	ErrSignature = errors.New("the signature of the file does not fit")
)

// Kind says which way a file goes.
type Kind string

// The kinds of files.
const (
	Events Kind = "events" // from a box to its hub
	Reply  Kind = "reply"  // from the hub to a box
)

// Header says what a file is. Anybody can read it; nothing in it counts before the signature was checked.
type Header struct {
	Kind        Kind      `json:"kind"`
	ID          string    `json:"id"` // random, 32 hexadecimal digits
	Box         uint32    `json:"box"`
	Made        time.Time `json:"made"`                  // by the clock of who wrote it
	Release     string    `json:"release"`               // of the program that wrote it
	Answers     string    `json:"answers,omitempty"`     // Reply: ID of the file that it answers, "" when none
	Certificate []byte    `json:"certificate,omitempty"` // Events: of the box, DER
}

// Name returns how a file with this header is called. The name is one that every file system takes.
func (h Header) Name() string {
	return fmt.Sprintf("box-%d-%s.%s", h.Box, h.Made.UTC().Format("20060102-150405"), h.Kind)
}

// newID returns a name for a file.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// kinds of parts; 0 ends a file
const (
	partEnd     = 0
	partReport  = 'R' // a wire.Report in JSON, compressed, sealed
	partBatch   = 'E' // a batch, compressed, sealed
	partAcks    = 'A' // a wire.Reply in JSON, compressed
	partDesired = 'D' // a desired.Signed in JSON, compressed
	partBlob    = 'B' // SHA-256 of a blob and a piece of it, in order
)

// writer writes a file.
type writer struct {
	w     io.Writer
	sum   hash.Hash
	bytes int64
}

// create writes the beginning of a file.
func create(w io.Writer, h Header) (*writer, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	f := &writer{w: w, sum: digest()}
	if err := f.write([]byte(magic)); err != nil {
		return nil, err
	}
	return f, f.write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)) //nolint:gosec // a few hundred bytes
}

func digest() hash.Hash {
	d := sha256.New()
	d.Write([]byte("sportello/stick/v1\x00"))
	return d
}

func (f *writer) write(b []byte) error {
	f.sum.Write(b)
	f.bytes += int64(len(b))
	_, err := f.w.Write(b)
	return err
}

// part writes a part.
func (f *writer) part(kind byte, b []byte) error {
	if len(b) > maxPart || f.bytes+int64(len(b)) > MaxFile-maxSig {
		return fmt.Errorf("%w: %d bytes", ErrLong, f.bytes+int64(len(b)))
	}
	if err := f.write(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(b)))); err != nil {
		return err
	}
	return f.write(b)
}

// close writes the end of the file; sign signs a SHA-256.
func (f *writer) close(sign func(sum [32]byte) ([]byte, error)) error {
	sig, err := sign([32]byte(f.sum.Sum(nil)))
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	_, err = f.w.Write(append(binary.BigEndian.AppendUint32([]byte{partEnd}, uint32(len(sig))), sig...)) //nolint:gosec // about a hundred bytes
	return err
}

// File is a file that was read through once: it is whole, and nobody knows yet who wrote it.
type File struct {
	Header Header

	r     io.ReadSeeker
	parts int64 // where they begin
	sum   [32]byte
	sig   []byte
}

// Open reads a file through. It fails with ErrForeign, ErrCut or ErrMalformed. r is read again later.
func Open(r io.ReadSeeker) (*File, error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	f := &File{r: r}
	s := &scanner{r: io.LimitReader(r, MaxFile), sum: digest()}
	if string(s.take(len(magic))) != magic {
		if s.err != nil && !errors.Is(s.err, ErrCut) {
			return nil, s.err
		}
		return nil, ErrForeign
	}
	head := s.sized(maxHeader)
	if s.err == nil {
		if err := json.Unmarshal(head, &f.Header); err != nil {
			return nil, fmt.Errorf("%w: header", ErrMalformed)
		}
	}
	if f.parts = s.bytes; s.err == nil && (f.Header.Kind == "" || f.Header.Box == 0) {
		return nil, fmt.Errorf("%w: header", ErrMalformed)
	}
	for s.err == nil {
		sum := s.sum.Sum(nil)
		kind, b := s.part()
		if s.err == nil && kind == partEnd {
			f.sum, f.sig = [32]byte(sum), b
			if _, err := io.ReadFull(r, make([]byte, 1)); !errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("%w: something follows its end", ErrMalformed)
			}
			return f, nil
		}
	}
	return nil, s.err
}

// each calls do with every part, in order.
func (f *File) each(do func(kind byte, b []byte) error) error {
	if _, err := f.r.Seek(f.parts, io.SeekStart); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	s := &scanner{r: io.LimitReader(f.r, MaxFile-f.parts), sum: digest()}
	for {
		kind, b := s.part()
		if s.err != nil {
			return s.err
		}
		if kind == partEnd {
			return nil
		}
		if err := do(kind, b); err != nil {
			return err
		}
	}
}

// scanner reads a file from the front. After err is set all that it returns is nothing.
type scanner struct {
	r     io.Reader
	sum   hash.Hash
	bytes int64
	err   error
}

func (s *scanner) take(n int) []byte {
	if s.err != nil {
		return nil
	}
	b := make([]byte, n)
	switch _, err := io.ReadFull(s.r, b); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		s.err = ErrCut
		return nil
	case err != nil:
		s.err = fmt.Errorf("read: %w", err)
		return nil
	}
	s.sum.Write(b)
	s.bytes += int64(n)
	return b
}

// sized reads a length of at most limit and that many bytes.
func (s *scanner) sized(limit uint32) []byte {
	b := s.take(4)
	if s.err != nil {
		return nil
	}
	n := binary.BigEndian.Uint32(b)
	if n > limit {
		s.err = fmt.Errorf("%w: %d bytes in one piece", ErrMalformed, n)
		return nil
	}
	// What is not there is not worth the memory for it: a length alone allocates little.
	out := make([]byte, 0, min(n, 64<<10))
	for left := int(n); left > 0 && s.err == nil; {
		piece := s.take(min(left, 1<<20))
		out, left = append(out, piece...), left-len(piece)
	}
	return out
}

func (s *scanner) part() (kind byte, b []byte) {
	k := s.take(1)
	if s.err != nil {
		return 0, nil
	}
	if k[0] == partEnd {
		return partEnd, s.sized(maxSig)
	}
	return k[0], s.sized(maxPart)
}
