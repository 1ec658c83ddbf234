// Package durable writes small files that must survive a pulled plug: after a power cut there is the old file or the
// new one, never a part.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// Write replaces the file at path, or makes it, with mode 0600.
func Write(path string, b []byte) error {
	return place(path, b, os.Rename)
}

// Create makes the file at path with mode 0600. It fails with an error that is fs.ErrExist when there is one, and then
// leaves it alone: of several callers at once, one wins.
func Create(path string, b []byte) error {
	return place(path, b, os.Link)
}

// Dir makes a directory, and those above it, that only its owner can enter.
func Dir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700)
}

// place writes b beside path, syncs it, moves it there and syncs the directory.
func place(path string, b []byte, move func(from, to string) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // does nothing after a rename
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = move(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir)
}

// SyncDir returns when the names in a directory are on the disk: without it a power cut may undo a rename, or bring back
// what was removed.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
