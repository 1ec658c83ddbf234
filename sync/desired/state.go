package desired

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"sportello.example/provisioning/durable"
)

// The files of a Follower. The state is switched by the one rename that puts stateFile in place.
const (
	stateFile    = "state.json"
	previousFile = "state.previous.json"
	pendingFile  = "state.next.json" // judged; its files are being fetched
	blobDir      = "blobs"
)

// record is what a box keeps about the document it follows.
type record struct {
	Signed     Signed               `json:"signed"`
	ETag       string               `json:"etag"`
	Received   time.Time            `json:"received"`    // by the box's clock when that was believed, else Document.Issued
	Floor      uint64               `json:"floor"`       // no document up to this version is taken
	RolledBack uint64               `json:"rolled_back"` // Document.Rollback of the last permission that was used
	SignKeys   [][]byte             `json:"sign_keys"`   // keys that were good when the document came
	Posted     map[string]time.Time `json:"posted"`      // since when there are which notices, by ID

	doc Document // of Signed
}

// errDamaged means that a state file is not what was written.
var errDamaged = errors.New("damaged")

// maxState bounds what is read of a state file, in bytes: a document in base 64, and what is kept beside it.
const maxState = 2*MaxDocument + 64<<10

// save writes the record in one rename. The SHA-256 of what follows stands in the first line: a signature covers the
// document only, and a flipped bit in Floor would be believed.
func (r *record) save(path string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	return durable.Write(path, append(append(hex.AppendEncode(nil, sum[:]), '\n'), b...))
}

// load reads what save wrote. It fails with an error that is fs.ErrNotExist, or with errDamaged.
func load(path string) (*record, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err != nil {
		return nil, err
	}
	return decodeRecord(b)
}

func decodeRecord(b []byte) (*record, error) {
	line, body, ok := bytes.Cut(b, []byte{'\n'})
	sum := sha256.Sum256(body)
	if !ok || len(b) > maxState || string(line) != hex.EncodeToString(sum[:]) {
		return nil, errDamaged
	}
	var r record
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, errDamaged
	}
	return &r, nil
}

// restore loads a state file and checks that its document was signed for this box.
func (f *Follower) restore(name string) (*record, error) {
	r, err := load(filepath.Join(f.o.Dir, name))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if r.doc, err = r.Signed.Open(f.o.Box, append(f.o.Keys(), publicKeys(r.SignKeys)...)); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// start reads what is on the disk. Without a state that can be believed the box begins without a document: the hub has
// it still.
func (f *Follower) start() error {
	if err := durable.Dir(filepath.Join(f.o.Dir, blobDir)); err != nil {
		return fmt.Errorf("desired state: %w", err)
	}
	if err := durable.Dir(f.o.Dir); err != nil {
		return fmt.Errorf("desired state: %w", err)
	}
	f.sweep()
	cur, err := f.restore(stateFile)
	prev, prevErr := f.restore(previousFile)
	for _, e := range []error{err, prevErr, f.readFloor()} {
		if e != nil && !errors.Is(e, fs.ErrNotExist) {
			f.o.Log.Error("state on disk cannot be used", "err", e)
		}
	}
	if err != nil {
		cur = prev
	}
	if prevErr != nil {
		prev = nil
	}
	f.previous = prev
	if cur != nil {
		f.current.Store(cur)
		f.examine(cur)
		if f.due = f.o.OnChange != nil; !f.due {
			f.reported.Store(cur.doc.Version)
		}
	}
	if next, err := f.restore(pendingFile); err == nil {
		if _, take, err := f.judge(next.Signed); err == nil && take {
			f.pending.Store(next)
		}
	}
	return nil
}

// sweep removes what a power cut left of files that were being written.
func (f *Follower) sweep() {
	left, err := filepath.Glob(filepath.Join(f.o.Dir, ".state*"))
	if err != nil {
		return
	}
	for _, name := range left {
		_ = os.Remove(name) // the next start tries again
	}
}

// publicKeys returns those of b that are Ed25519 keys.
func publicKeys(b [][]byte) []ed25519.PublicKey {
	var keys []ed25519.PublicKey
	for _, k := range b {
		if len(k) == ed25519.PublicKeySize {
			keys = append(keys, k)
		}
	}
	return keys
}
