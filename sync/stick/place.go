package stick

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

var (
	// ErrFull means that a file does not fit where it should be written.
	ErrFull = errors.New("no room left")
	// ErrGone means that what a file is written on does not answer any more.
	ErrGone = errors.New("the stick does not answer: it was pulled, or is broken")
)

// maxSame bounds how many files of one name are numbered.
const maxSame = 1000

// Place writes a file at path, or under name in path when that is a folder, and returns where it is. When there is such a
// file already the new one gets a number, as in name-2.events: without a clock two of them are named alike, and the first
// one may not have been delivered yet. The file is whole and on the medium when Place returns, or not there at all. It
// fails with ErrFull or ErrGone, or says why it cannot.
func Place(path, name string, write func(io.Writer) error) (at string, err error) {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		path = filepath.Join(path, name)
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "sportello-*.part")
	if err != nil {
		return "", medium(err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // does nothing after a rename
	w := bufio.NewWriterSize(f, 256<<10)
	if err = write(w); err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", medium(err)
	}
	if path, err = unused(f.Name(), path); err != nil {
		return "", medium(err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", medium(err)
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil // the file system has no such thing for folders
	}
	if err = errors.Join(err, d.Close()); err != nil {
		return "", medium(err)
	}
	return path, nil
}

// unused moves a file to path, or to the first number of it that there is no file of, and returns where it is.
func unused(from, path string) (at string, err error) {
	end := filepath.Ext(path)
	for i := 1; i <= maxSame; i++ {
		at = path
		if i > 1 {
			at = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(path, end), i, end)
		}
		err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, at, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // not every file system can do it
			if _, err = os.Lstat(at); err == nil {
				continue
			}
			err = os.Rename(from, at)
		}
		if !errors.Is(err, fs.ErrExist) {
			return at, err
		}
	}
	return "", fmt.Errorf("%s: there are %d files of this name: %w", path, maxSame, fs.ErrExist)
}

// medium says what is wrong with a stick in words.
func medium(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EFBIG), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return err
}
