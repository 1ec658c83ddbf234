package sqlite

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"sportello.example/sync/envelope"
)

// The witness is a small file beside the database that says how far the queue had come. A database that has lost its
// last commits (one flipped bit in the write-ahead log is enough, and SQLite does not say a word), or that is a copy from
// before, would give out numbers a second time; the hub would take the new events for the old ones. At the next start
// the witness tells.
//
// It is written after each commit, so when it is written it is not ahead of the database, and reaches the disk within a
// second; it costs no fsync. It has two slots that are written in turn, so that a torn write leaves the one before.

// streams is how many streams a box has.
const streams = 5

// mark is a place in a chain: a number and the chain's hash after it.
type mark struct {
	seq  uint64
	hash envelope.Hash
}

// testimony is what the witness says.
type testimony struct {
	epoch   envelope.Epoch
	boot    uint32
	clean   bool            // the program ended of its own accord
	suspect bool            // the database's structure was found damaged
	heads   [streams]mark   // last number given out in epoch
	acked   [streams]uint64 // and acknowledged by the hub
}

const (
	witnessMagic = "SPW\x01"
	slotSize     = 512
	slotStride   = 4096 // a slot in each page: whatever tears one write leaves the other
	witnessSize  = 2 * slotStride
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendSlot appends a slot of slotSize bytes.
func (t testimony) appendSlot(b []byte, generation uint64) []byte {
	start := len(b)
	b = append(b, witnessMagic...)
	b = binary.BigEndian.AppendUint64(b, generation)
	var epoch [16]byte
	_, _ = hex.Decode(epoch[:], []byte(t.epoch)) // epochs of this program have 32 digits
	b = append(b, epoch[:]...)
	b = binary.BigEndian.AppendUint32(b, t.boot)
	var flags byte
	if t.clean {
		flags |= 1
	}
	if t.suspect {
		flags |= 2
	}
	b = append(b, flags)
	for i, h := range t.heads {
		b = binary.BigEndian.AppendUint64(b, h.seq)
		b = append(b, h.hash[:]...)
		b = binary.BigEndian.AppendUint64(b, t.acked[i])
	}
	for len(b)-start < slotSize-4 {
		b = append(b, 0)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

var errWitness = errors.New("no witness")

// parseSlot reads a slot.
func parseSlot(b []byte) (t testimony, generation uint64, err error) {
	if len(b) != slotSize || string(b[:len(witnessMagic)]) != witnessMagic ||
		crc32.Checksum(b[:slotSize-4], castagnoli) != binary.BigEndian.Uint32(b[slotSize-4:]) {
		return testimony{}, 0, errWitness
	}
	b = b[len(witnessMagic):]
	generation = binary.BigEndian.Uint64(b)
	t.epoch = envelope.Epoch(hex.EncodeToString(b[8:24]))
	t.boot = binary.BigEndian.Uint32(b[24:])
	t.clean, t.suspect = b[28]&1 != 0, b[28]&2 != 0
	b = b[29:]
	for i := range t.heads {
		t.heads[i].seq = binary.BigEndian.Uint64(b)
		copy(t.heads[i].hash[:], b[8:])
		t.acked[i] = binary.BigEndian.Uint64(b[8+envelope.HashSize:])
		if t.heads[i].seq > envelope.MaxSeq || t.acked[i] > t.heads[i].seq {
			return testimony{}, 0, errWitness
		}
		b = b[16+envelope.HashSize:]
	}
	return t, generation, nil
}

// parseWitness returns the newer of the slots that can be read. It fails with errWitness when there is none.
func parseWitness(b []byte) (t testimony, generation uint64, err error) {
	err = errWitness
	for at := 0; at+slotSize <= len(b) && at < witnessSize; at += slotStride {
		if u, g, e := parseSlot(b[at : at+slotSize]); e == nil && (err != nil || g > generation) {
			t, generation, err = u, g, nil
		}
	}
	return t, generation, err
}

// witness is the open file. Its methods are safe for concurrent use.
type witness struct {
	f    *os.File
	fail func(error) // told once of writes that fail, until one does not: the queue goes on without

	mu         sync.Mutex // guards the fields that follow
	generation uint64
	buf        []byte
	dirty      bool
	again      bool        // the last sync failed: what was written is written again, for the kernel may have given it up
	failed     bool        // fail was told
	timer      *time.Timer // runs sync, armed while dirty
	closed     bool

	syncing sync.WaitGroup
}

// syncEvery is how long what was written may take to reach the disk.
const syncEvery = time.Second

// retryEvery is how long it takes until what could not be written is tried again.
const retryEvery = 10 * time.Second

// openWitness opens or makes the file and locks it, so that no other process counts on in the same queue. known says
// whether it could be read. ErrInUse.
func openWitness(path string, fail func(error)) (w *witness, t testimony, known bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, t, false, fmt.Errorf("witness: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	// A process that is just being started holds for a moment what its parent had open, and has closed meanwhile.
	for try := 0; err != nil && try < 20; try++ {
		time.Sleep(10 * time.Millisecond)
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		return nil, t, false, errors.Join(fmt.Errorf("%w: %w", ErrInUse, err), f.Close())
	}
	b := make([]byte, witnessSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, t, false, errors.Join(fmt.Errorf("witness: %w", err), f.Close())
	}
	w = &witness{f: f, fail: fail}
	t, w.generation, err = parseWitness(b[:n])
	return w, t, err == nil, nil
}

// write says t. It does not wait for the disk.
func (w *witness) write(t testimony) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.generation++
	w.buf = t.appendSlot(w.buf[:0], w.generation)
	w.put()
}

// put writes buf where it belongs, and sees to it that it is synced. The caller holds mu.
func (w *witness) put() {
	if _, err := w.f.WriteAt(w.buf, int64(w.generation%2)*slotStride); err != nil {
		w.again = true
		w.complain(err)
	}
	if !w.dirty {
		w.dirty = true
		if w.timer == nil {
			w.timer = time.AfterFunc(syncEvery, w.background)
		} else {
			w.timer.Reset(syncEvery)
		}
	}
}

// complain tells of the first failure. The caller holds mu.
func (w *witness) complain(err error) {
	if !w.failed {
		w.failed = true
		w.fail(err)
	}
}

func (w *witness) background() {
	w.mu.Lock()
	if w.closed || !w.dirty {
		w.mu.Unlock()
		return
	}
	w.dirty = false
	if w.again {
		if _, err := w.f.WriteAt(w.buf, int64(w.generation%2)*slotStride); err != nil {
			w.dirty = true
			w.timer.Reset(retryEvery)
			w.mu.Unlock()
			return
		}
		w.again = false
	}
	w.syncing.Add(1)
	w.mu.Unlock() // who writes meanwhile does not wait for the disk
	defer w.syncing.Done()
	err := w.sync()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.failed = w.failed && w.again
	case !w.closed:
		w.again = true
		w.complain(err)
		if !w.dirty {
			w.dirty = true
			w.timer.Reset(retryEvery)
		}
	}
}

// sync waits until what was written is on the disk.
func (w *witness) sync() error {
	if err := syscall.Fdatasync(int(w.f.Fd())); err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	return nil
}

// writeNow says t and waits until it is on the disk.
func (w *witness) writeNow(t testimony) error {
	w.write(t)
	return w.sync()
}

// syncNew waits until a file that was just made has its name on the disk too.
func (w *witness) syncNew() error {
	d, err := os.Open(filepath.Dir(w.f.Name()))
	if err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// close syncs and closes the file.
func (w *witness) close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	if w.timer != nil {
		w.timer.Stop()
	}
	w.mu.Unlock()
	w.syncing.Wait()
	return errors.Join(w.sync(), w.f.Close())
}
