package content

import (
	"context"
	"errors"
	"fmt"
	"io"

	"sportello.example/sync/desired"
)

// File returns a file that the document of a box in that branch names by its SHA-256. It fails with ErrNoItem, for other
// files too: what is meant for one box is no other's business. Reading fails when ctx has ended.
func (d *Desk) File(ctx context.Context, box uint32, branch, sha256 string) (*File, error) {
	k, _, err := d.now(ctx)
	if err != nil {
		return nil, fmt.Errorf("file for box %d: %w", box, err)
	}
	doc, _ := k.document(box, branch)
	for _, b := range doc.Content {
		if b.SHA256 == sha256 {
			return &File{ctx: ctx, store: d.cfg.Store, Blob: b, piece: -1}, nil
		}
	}
	return nil, fmt.Errorf("file for box %d: %w", box, ErrNoItem)
}

// File is one that is being sent: it reads a piece of the stored file at a time. It is an io.ReadSeeker.
type File struct {
	desired.Blob

	ctx   context.Context //nolint:containedctx // it lives as long as the request that it answers
	store Store
	at    int64
	piece int // number of the one in b, -1: none
	b     []byte
}

// Read implements io.Reader.
func (f *File) Read(p []byte) (int, error) {
	if f.at >= f.Size {
		return 0, io.EOF
	}
	if n := int(f.at / PartSize); n != f.piece {
		b, err := f.store.Part(f.ctx, f.SHA256, n)
		if err != nil {
			return 0, fmt.Errorf("file %s: %w", f.Name, err)
		}
		f.piece, f.b = n, b
	}
	from := int(f.at % PartSize)
	if from >= len(f.b) {
		return 0, fmt.Errorf("file %s is stored in part: %w", f.Name, io.ErrUnexpectedEOF)
	}
	n := copy(p, f.b[from:])
	f.at += int64(n)
	return n, nil
}

// Seek implements io.Seeker.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.at
	case io.SeekEnd:
		offset += f.Size
	}
	if offset < 0 {
		return 0, errors.New("seek before the beginning")
	}
	f.at = offset
	return offset, nil
}
