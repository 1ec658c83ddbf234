package desired

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func FuzzDocument(f *testing.F) {
	f.Add([]byte(`{"version":1,"box":7,"notices":[{"id":"a","severity":"info","from":"2026-11-25T09:00:00Z","text":{"it":"Ciao"}}]}`))
	f.Add([]byte(`{"content":[{"name":"a.json","sha256":"` + strings.Repeat("0", 64) + `","size":1}],"seal_keys":["AAAA"],"until":"x"}`))
	f.Add([]byte(`{"issued":"-1","expires":"9999-12-31T23:59:59Z"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := decode(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("got %v", err)
			}
			return
		}
		for _, c := range d.Content {
			if filepath.Base(c.SHA256) != c.SHA256 || filepath.Base(c.Name) != c.Name || c.Size < 0 || c.Size > MaxBlob {
				t.Errorf("accepted %+v", c)
			}
		}
		d.Core()
		programFits("v1.2.3", d.MinProgram)
		for _, n := range d.Notices {
			n.active(time.Unix(1_800_000_000, 0))
		}
	})
}

func FuzzSigned(f *testing.F) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	keys := []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}
	s, err := Sign(Document{Version: 1, Box: boxNumber}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Body, s.Sig)
	f.Add([]byte("{}"), []byte("x"))
	f.Fuzz(func(t *testing.T, body, sig []byte) {
		d, err := Signed{body, sig}.Open(boxNumber, keys)
		if err == nil && !bytes.Equal(body, s.Body) {
			t.Errorf("opened what nobody signed: %+v", d)
		}
	})
}

func FuzzRecord(f *testing.F) {
	dir := f.TempDir()
	r := &record{Floor: 3, ETag: `"x"`, Posted: map[string]time.Time{"a": {}}}
	if err := r.save(filepath.Join(dir, stateFile)); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("\n"))
	f.Add([]byte("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := decodeRecord(b); err != nil && !errors.Is(err, errDamaged) {
			t.Errorf("got %v", err)
		}
	})
}
