package desired

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sportello.example/provisioning/durable"
)

// floorFile keeps the highest version that this box was ever given, beside the states, which say it too: when they are
// both damaged an old document, from a USB stick or a restored hub, must not pass for new.
const floorFile = "floor"

// maxFloor bounds what is read of floorFile, in bytes.
const maxFloor = 256

// floor is the highest version, or permission to go back, that a box was given by a hub.
type floor struct {
	version uint64
	whose   string // hub and box: another hub, or another number of the box, begins anew
}

func (f floor) encode() []byte {
	line := fmt.Sprintf("%d %s", f.version, f.whose)
	sum := sha256.Sum256([]byte(line))
	return fmt.Appendf(nil, "%s %s\n", line, hex.EncodeToString(sum[:]))
}

// decodeFloor reads what encode wrote. It fails with errDamaged.
func decodeFloor(b []byte) (f floor, err error) {
	if _, err := fmt.Sscanf(string(b), "%d %s", &f.version, &f.whose); err != nil || string(f.encode()) != string(b) {
		return floor{}, errDamaged
	}
	return f, nil
}

// whose says in 64 digits which hub let the box in, and under which number.
func (f *Follower) whose() string {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%d", f.o.Box)
	for _, k := range f.o.Keys() {
		_, _ = h.Write(k)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// readFloor reads floorFile. Without one the states say what there is to say.
func (f *Follower) readFloor() error {
	file, err := os.Open(filepath.Join(f.o.Dir, floorFile))
	if err != nil {
		return fmt.Errorf("%s: %w", floorFile, err)
	}
	defer func() { _ = file.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(file, maxFloor))
	if err != nil {
		return fmt.Errorf("%s: %w", floorFile, err)
	}
	if f.lowest, err = decodeFloor(b); err != nil {
		return fmt.Errorf("%s: %w", floorFile, err)
	}
	return nil
}

// raiseFloor notes the version of a document that was judged good, before anything of it is on the disk.
func (f *Follower) raiseFloor(r *record) error {
	next := floor{max(r.Floor, f.floor()), f.whose()}
	f.mu.Lock()
	same := f.lowest == next
	f.mu.Unlock()
	if same {
		return nil
	}
	if err := durable.Write(filepath.Join(f.o.Dir, floorFile), next.encode()); err != nil {
		return fmt.Errorf("keep the highest version: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lowest = next
	return nil
}

// floor is the version below which nothing new is taken, 0 when this hub has given the box nothing yet.
func (f *Follower) floor() uint64 {
	f.mu.Lock()
	low := f.lowest
	f.mu.Unlock()
	if low.version == 0 || low.whose != f.whose() {
		return 0
	}
	return low.version
}
