package desired

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// random returns bytes that do not compress.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1, byte(n)}).Read(b)
	return b
}

func TestResume(t *testing.T) {
	h := newHub(t)
	body := random(400_000)
	b := h.blob("large.bin", body)
	h.publish(Document{Version: 1, Content: []Blob{b}})
	o := h.options(h.behindCutter(60_000))
	o.jitter = func(int64) int64 { return 0 }
	deadline := time.Now().Add(60 * time.Second)
	var last int64
	for n := 0; ; n++ { // each life of the program brings a piece
		f, stop := follow(t, o)
		until(t, "a piece", func() bool {
			st, err := os.Stat(f.blobPath(b) + part)
			return f.Version() == 1 || err == nil && st.Size() > last
		})
		done := f.Version() == 1
		stop()
		if done {
			if got := read(t, f, "large.bin"); got != string(body) {
				t.Error("the file is another one")
			}
			t.Logf("%d lives of the program", n+1)
			break
		}
		if st, err := os.Stat(f.blobPath(b) + part); err == nil {
			last = st.Size()
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d bytes", last, len(body))
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	// What was on the way when the line was cut comes twice.
	if h.served > 8*b.Size {
		t.Errorf("%d bytes were sent for a file of %d", h.served, b.Size)
	}
}

func TestWrongBytesAreNotUsed(t *testing.T) {
	h := newHub(t)
	h.publish(Document{Version: 1})
	o := h.options(h.serve())
	f, _ := follow(t, o)
	at(t, f, 1)
	h.set(func() { h.wrong = true })
	b := h.blob("a.bin", random(100_000))
	h.publish(Document{Version: 2, Content: []Blob{b}})
	until(t, "bytes to be sent and thrown away", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.served >= b.Size && !slices.Contains(stored(t, o), b.SHA256+part)
	})
	if f.Version() != 1 {
		t.Errorf("version %d is followed", f.Version())
	}
	h.set(func() { h.wrong = false })
	f.LineUp()
	at(t, f, 2)
	if len(read(t, f, "a.bin")) != 100_000 {
		t.Error("the file is not whole")
	}
}

// TestFullDisk uses the kernel's own full device.
func TestFullDisk(t *testing.T) {
	h := newHub(t)
	h.publish(Document{Version: 1})
	o := h.options(h.serve())
	f, stop := follow(t, o)
	at(t, f, 1)
	stop()
	b := h.blob("a.bin", random(100_000))
	small := h.blob("b.bin", []byte("small"))
	trap := filepath.Join(o.Dir, blobDir, b.SHA256+part)
	if err := os.Symlink("/dev/full", trap); err != nil {
		t.Fatal(err)
	}
	h.publish(Document{Version: 2, Content: []Blob{small, b}})
	f, stop = follow(t, o)
	until(t, "room to be made", func() bool { return len(stored(t, o)) == 0 })
	if d, _, fresh := f.Current(); d.Version != 1 || !fresh {
		t.Errorf("with a full disk: %+v, %v", d, fresh)
	}
	f.LineUp() // there is room again: the trap is gone
	at(t, f, 2)
	stop()
}

func TestDamage(t *testing.T) {
	h := newHub(t)
	b := h.blob("a.bin", random(10_000))
	one := h.blob("one.bin", random(100))
	src := h.serve()
	begin := func(t *testing.T) Options {
		o := h.options(src)
		h.publish(Document{Version: 1, Content: []Blob{one}})
		f, stop := follow(t, o)
		at(t, f, 1)
		h.publish(Document{Version: 2, Content: []Blob{b}})
		at(t, f, 2)
		stop()
		return o
	}
	t.Run("a file", func(t *testing.T) {
		o := begin(t)
		flip(t, filepath.Join(o.Dir, blobDir, b.SHA256))
		f, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Open("a.bin"); !errors.Is(err, ErrBlob) || !slices.Equal(f.Missing(), []string{"a.bin"}) || f.Version() != 2 {
			t.Errorf("got %v, missing %q at version %d", err, f.Missing(), f.Version())
		}
		g, _ := follow(t, o)
		until(t, "the file", func() bool { return len(g.Missing()) == 0 })
		if len(read(t, g, "a.bin")) != 10_000 {
			t.Error("the file is not whole")
		}
	})
	t.Run("the state", func(t *testing.T) {
		o := begin(t)
		flip(t, filepath.Join(o.Dir, stateFile))
		f, _ := follow(t, o)
		if f.Version() != 1 && f.Version() != 2 {
			t.Errorf("at version %d", f.Version())
		}
		at(t, f, 2)
	})
	t.Run("the state, without a line", func(t *testing.T) {
		o := begin(t)
		flip(t, filepath.Join(o.Dir, stateFile))
		f, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if f.Version() != 1 || len(read(t, f, "one.bin")) != 100 {
			t.Errorf("at version %d, not the previous one", f.Version())
		}
	})
	t.Run("everything", func(t *testing.T) {
		o := begin(t)
		for _, name := range []string{stateFile, previousFile, filepath.Join(blobDir, b.SHA256), filepath.Join(blobDir, one.SHA256)} {
			flip(t, filepath.Join(o.Dir, name))
		}
		f, err := New(o)
		if err != nil || f.Version() != 0 {
			t.Fatalf("at version %d, %v", f.Version(), err)
		}
		g, _ := follow(t, o)
		at(t, g, 2)
		if len(read(t, g, "a.bin")) != 10_000 {
			t.Error("the file is not whole")
		}
	})
}
