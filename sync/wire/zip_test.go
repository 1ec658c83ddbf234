package wire_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"sportello.example/sync/wire"
)

func zip(t testing.TB, b []byte) []byte {
	t.Helper()
	z, err := wire.Zip(b)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestZip(t *testing.T) {
	noise := make([]byte, 100_000)
	_, _ = rand.Read(noise)
	for _, tt := range []struct {
		name string
		b    []byte
	}{
		{"nothing", nil},
		{"a byte", []byte("x")},
		{"what repeats", bytes.Repeat([]byte("session.started"), 100_000)},
		{"what does not compress", noise},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := wire.Unzip(zip(t, tt.b), 8<<20)
			if err != nil || !bytes.Equal(got, tt.b) {
				t.Errorf("got %d bytes, %v, want %d", len(got), err, len(tt.b))
			}
		})
	}
	t.Run("as long as the limit, and one longer", func(t *testing.T) {
		b := bytes.Repeat([]byte("12345678"), 1<<10)
		if got, err := wire.Unzip(zip(t, b), len(b)); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if got, err := wire.Unzip(zip(t, b), len(b)-1); !errors.Is(err, wire.ErrZip) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("by many at once", func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				b := bytes.Repeat([]byte{byte(i)}, 10_000+i)
				for range 50 {
					z, err := wire.Zip(b)
					if err != nil {
						t.Error(err)
						return
					}
					if got, err := wire.Unzip(z, 1<<20); err != nil || !bytes.Equal(got, b) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
				}
			})
		}
		wg.Wait()
	})
}

// stream compresses n zeros the way a stream is: without saying how long it is.
func stream(t testing.TB, n int, o ...zstd.EOption) []byte {
	t.Helper()
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out, o...)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for ; n > 0; n -= len(zeros) {
		if _, err := z.Write(zeros[:min(n, len(zeros))]); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A few bytes must not cost as much memory as the largest message.
func TestUnzipOfLittle(t *testing.T) {
	const limit = 8 << 20
	b := zip(t, []byte("a batch without events"))
	n := testing.AllocsPerRun(10, func() { _, _ = wire.Unzip(b, limit) })
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		if _, err := wire.Unzip(b, limit); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / 100; got > 16<<10 {
		t.Errorf("%d bytes of memory in %.0f pieces for %d", got, n, len(b))
	}
}

func TestBombs(t *testing.T) {
	const limit = 1 << 20
	_, _ = wire.Unzip(zip(t, []byte("x")), limit) // makes the decoder
	small := zip(t, bytes.Repeat([]byte("x"), 1000))
	lying := bytes.Clone(zip(t, make([]byte, 300<<20)))
	for _, tt := range []struct {
		name string
		b    []byte
	}{
		{"that says how large it is", lying},
		{"that does not", stream(t, 300<<20)},
		{"with a large window", stream(t, 300<<20, zstd.WithWindowSize(256<<20))},
		{"of many frames", bytes.Repeat(zip(t, make([]byte, limit)), 300)},
		{"of many frames that do not say", bytes.Repeat(stream(t, limit), 300)},
		{"behind a frame that says that it is small", append(bytes.Clone(small), lying...)},
		{"behind an empty frame", append(zip(t, nil), lying...)},
		{"not zstd", []byte("PK\x03\x04")},
		{"cut", small[:len(small)-2]},
		{"something behind it", append(bytes.Clone(small), "garbage"...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got, err := wire.Unzip(tt.b, limit)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, wire.ErrZip) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 8*limit {
				t.Errorf("%d bytes of memory for %d", n, len(tt.b))
			}
		})
	}
}

func FuzzUnzip(f *testing.F) {
	f.Add(zip(f, []byte("session.started session.started session.started")))
	f.Add(stream(f, 100_000))
	f.Add(zip(f, make([]byte, 1<<20)))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd})
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 1 << 16
		got, err := wire.Unzip(b, limit)
		if err == nil && len(got) > limit || err != nil && !errors.Is(err, wire.ErrZip) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}
