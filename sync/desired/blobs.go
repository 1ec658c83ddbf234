package desired

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"sportello.example/provisioning/durable"
)

var (
	// ErrBlob means that a file which the box's document names is not there (yet), or not as the document says.
	ErrBlob = errors.New("file of the desired state is not there")
	// errHash means that what was fetched is not what the document names.
	errHash = errors.New("fetched file is not the one that the document names")
)

// part is the end of the name of a file that is still being fetched.
const part = ".part"

func (f *Follower) blobPath(b Blob) string { return filepath.Join(f.o.Dir, blobDir, b.SHA256) }

// intact says whether a blob is on the disk as the document names it. It reads the whole file.
func (f *Follower) intact(b Blob) bool { return matches(f.blobPath(b), b) }

func matches(path string, b Blob) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }() // only read
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(file, b.Size+1))
	return err == nil && n == b.Size && hex.EncodeToString(h.Sum(nil)) == b.SHA256
}

// examine checks the files of the document in use. Those that are damaged are removed, so that they are fetched again.
func (f *Follower) examine(r *record) {
	missing := map[string]bool{}
	for _, b := range r.doc.Content {
		if f.intact(b) {
			f.verified[b.SHA256] = true
			continue
		}
		f.o.Log.Error("file of the desired state is damaged or gone: it will be fetched again", "name", b.Name)
		_ = os.Remove(f.blobPath(b)) // perhaps it is not there
		missing[b.SHA256] = true
	}
	f.setMissing(missing)
}

// complete says whether all files of a document are here.
func (f *Follower) complete(d Document) bool {
	for _, b := range d.Content {
		if _, err := os.Stat(f.blobPath(b)); err != nil {
			return false
		}
	}
	return true
}

// fetch brings every blob of a document that is not here yet. When it returns nil they are all on the disk, synced.
func (f *Follower) fetch(ctx context.Context, d Document) error {
	for _, b := range d.Content {
		if st, err := os.Stat(f.blobPath(b)); err == nil && st.Mode().IsRegular() && st.Size() == b.Size && (f.verified[b.SHA256] || f.intact(b)) {
			f.verified[b.SHA256] = true
			continue
		}
		if err := f.fetchOne(ctx, b); err != nil {
			return fmt.Errorf("file %s: %w", b.Name, err)
		}
		f.verified[b.SHA256] = true
	}
	return nil
}

// fetchOne goes on with a blob where an earlier try ended, in this life of the program or in one before.
func (f *Follower) fetchOne(ctx context.Context, b Blob) (err error) {
	path := f.blobPath(b) + part
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, file.Close())
		if errors.Is(err, errHash) {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	st, err := file.Stat()
	if err != nil {
		return err
	}
	if st.Size() > b.Size {
		return fmt.Errorf("%d bytes are here already: %w", st.Size(), errHash)
	}
	if st.Size() < b.Size {
		if err := f.o.Source.Blob(ctx, b.SHA256, st.Size(), &limited{file, b.Size - st.Size()}); err != nil {
			return err
		}
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if !matches(path, b) {
		return errHash
	}
	if err := os.Rename(path, f.blobPath(b)); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// limited is a file that takes no more than n bytes.
type limited struct {
	w io.Writer
	n int64
}

func (l *limited) Write(p []byte) (int, error) {
	if int64(len(p)) > l.n {
		return 0, fmt.Errorf("more bytes than announced: %w", errHash)
	}
	n, err := l.w.Write(p)
	l.n -= int64(n)
	return n, err
}

// collect removes files that none of these documents names, and what is left of fetching others.
func (f *Follower) collect(records ...*record) {
	keep := map[string]bool{}
	for _, r := range records {
		if r == nil {
			continue
		}
		for _, b := range r.doc.Content {
			keep[b.SHA256] = true
		}
	}
	entries, err := os.ReadDir(filepath.Join(f.o.Dir, blobDir))
	if err != nil {
		f.o.Log.Warn("old files not removed", "err", err)
		return
	}
	for _, e := range entries {
		if keep[e.Name()] {
			continue
		}
		delete(f.verified, strings.TrimSuffix(e.Name(), part))
		if err := os.Remove(filepath.Join(f.o.Dir, blobDir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.o.Log.Warn("old file not removed", "err", err)
		}
	}
}

// noRoom says whether a disk is full.
func noRoom(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
