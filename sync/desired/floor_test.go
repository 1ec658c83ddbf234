package desired

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// TestVersionIsSaidWhenTakenUp has a box that cannot take up a document at first, as when its disk has no room.
func TestVersionIsSaidWhenTakenUp(t *testing.T) {
	h := newHub(t)
	h.publish(Document{Version: 1})
	o := h.options(h.serve())
	o.jitter = func(int64) int64 { return 0 }
	var stuck atomic.Bool
	var tries atomic.Int32
	o.OnChange = func(d Document) error {
		tries.Add(1)
		if d.Version == 2 && stuck.Load() {
			return errors.New("no room")
		}
		return nil
	}
	f, stop := follow(t, o)
	at(t, f, 1)
	stuck.Store(true)
	before := tries.Load()
	h.publish(Document{Version: 2})
	until(t, "a try", func() bool { return tries.Load() > before })
	if d, _, _ := f.Current(); d.Version != 2 || f.Version() != 1 {
		t.Errorf("not taken up: follows %d, says %d", d.Version, f.Version())
	}
	f.LineUp()
	until(t, "another try", func() bool { return tries.Load() > before+1 })
	stop()
	// Nor after a restart.
	before = tries.Load()
	f, stop = follow(t, o)
	until(t, "a try after a restart", func() bool { return tries.Load() > before })
	if v := f.Version(); v != 0 {
		t.Errorf("after a restart, not taken up: says %d", v)
	}
	stuck.Store(false)
	f.LineUp()
	at(t, f, 2)
	stop()
	// One that cannot be taken up does not keep the next one away.
	stuck.Store(true)
	f, stop = follow(t, o)
	h.publish(Document{Version: 3})
	at(t, f, 3)
	stop()
}

// TestOldDocumentAfterDamage offers a box that has lost both its states what it once had, as on an old USB stick.
func TestOldDocumentAfterDamage(t *testing.T) {
	h := newHub(t)
	o := h.options(h.serve())
	f, stop := follow(t, o)
	for v := uint64(1); v <= 5; v++ {
		h.publish(Document{Version: v})
		at(t, f, v)
	}
	h.publish(Document{Version: 3, Rollback: 6})
	at(t, f, 3)
	stop()
	for _, name := range []string{stateFile, previousFile} {
		if err := os.Remove(filepath.Join(o.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := New(o)
	if err != nil || f.Version() != 0 {
		t.Fatalf("version %d, %v", f.Version(), err)
	}
	now := time.Now()
	judged := func(f *Follower, d Document) error {
		t.Helper()
		d.Box, d.Issued, d.Expires = boxNumber, now, now.Add(time.Hour)
		s, err := Sign(d, h.key)
		if err != nil {
			t.Fatal(err)
		}
		_, take, err := f.judge(s)
		if take != (err == nil) {
			t.Errorf("%+v: taken %v, %v", d, take, err)
		}
		return err
	}
	for name, tt := range map[string]struct {
		d    Document
		want error
	}{
		"old":                   {Document{Version: 2}, ErrOlder},
		"from before the leave": {Document{Version: 5}, ErrOlder},
		"an older leave":        {Document{Version: 2, Rollback: 5}, ErrOlder},
		"what it had":           {Document{Version: 3, Rollback: 6}, nil},
		"new":                   {Document{Version: 7}, nil},
	} {
		if err := judged(f, tt.d); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
	t.Run("another hub begins anew", func(t *testing.T) {
		other := o
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		other.Keys = func() []ed25519.PublicKey { return append(h.keys(), key.Public().(ed25519.PublicKey)) }
		f, err := New(other)
		if err != nil {
			t.Fatal(err)
		}
		if err := judged(f, Document{Version: 1}); err != nil {
			t.Error(err)
		}
	})
	t.Run("a damaged floor does not keep the box from starting", func(t *testing.T) {
		flip(t, filepath.Join(o.Dir, floorFile))
		f, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := judged(f, Document{Version: 1}); err != nil {
			t.Error(err)
		}
	})
	t.Run("the box goes on with what the hub has", func(t *testing.T) {
		f, stop := follow(t, o)
		at(t, f, 3)
		stop()
	})
}

func FuzzFloor(f *testing.F) {
	f.Add(floor{7, "00ff"}.encode())
	f.Add([]byte("7 00ff \n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := decodeFloor(b); err != nil && !errors.Is(err, errDamaged) {
			t.Errorf("got %v", err)
		}
	})
}
