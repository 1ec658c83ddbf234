package seal_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"sportello.example/sync/seal"
)

func key(t testing.TB) seal.PrivateKey {
	t.Helper()
	k, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sealer(t testing.TB, k seal.PrivateKey) *seal.Sealer {
	t.Helper()
	s := seal.NewSealer(time.Now)
	if err := s.Use(k.Public()); err != nil {
		t.Fatal(err)
	}
	return s
}

var (
	aad   = []byte("box 7, legal, 300")
	plain = []byte(`{"code":"2345FG"}`)
)

func closed(t testing.TB, s *seal.Sealer) []byte {
	t.Helper()
	b, err := s.Seal(aad, plain)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSeal(t *testing.T) {
	hub := key(t)
	s := sealer(t, hub)
	sealed := closed(t, s)
	if len(sealed) != len(plain)+seal.Overhead {
		t.Fatalf("%d bytes", len(sealed))
	}
	t.Run("the hub opens it, also after a restart", func(t *testing.T) {
		b, err := hub.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		again, err := seal.ParseKey(b)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := (seal.Ring{again}).Open(aad, sealed); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("got %q, %v, want %q", got, err, plain)
		}
	})
	t.Run("nothing shows and no two are alike", func(t *testing.T) {
		if again := closed(t, s); bytes.Equal(again, sealed) || bytes.Contains(sealed, []byte("2345FG")) {
			t.Errorf("%x, %x", sealed, again)
		}
	})
	t.Run("it says which key it is for, and nothing else does", func(t *testing.T) {
		if id, ok := seal.KeyOf(sealed); !ok || id != hub.ID() || id != seal.ID(hub.Public()) {
			t.Errorf("%s, %v, want %s", id, ok, hub.ID())
		}
		for _, b := range [][]byte{nil, sealed[:seal.Overhead-1], append([]byte{1}, sealed[1:]...)} {
			if id, ok := seal.KeyOf(b); ok {
				t.Errorf("%x is for %s", b, id)
			}
		}
	})
	for i := range sealed {
		c := slices.Clone(sealed)
		c[i] ^= 1
		if got, err := (seal.Ring{hub}).Open(aad, c); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("byte %d changed: got %q, %v", i, got, err)
		}
	}
	for _, tt := range []struct {
		name string
		ring seal.Ring
		aad  string
		ct   []byte
	}{
		{"no key", nil, string(aad), sealed},
		{"another key", seal.Ring{key(t)}, string(aad), sealed},
		{"another event", seal.Ring{hub}, "box 7, legal, 301", sealed},
		{"no event", seal.Ring{hub}, "", sealed},
		{"cut", seal.Ring{hub}, string(aad), sealed[:len(sealed)-1]},
		{"cut inside the header", seal.Ring{hub}, string(aad), sealed[:10]},
		{"something behind it", seal.Ring{hub}, string(aad), append(slices.Clone(sealed), 0)},
		{"empty", seal.Ring{hub}, string(aad), nil},
		{"zeros", seal.Ring{hub}, string(aad), make([]byte, 200)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := tt.ring.Open([]byte(tt.aad), tt.ct); !errors.Is(err, seal.ErrOpen) {
				t.Errorf("got %q, %v, want ErrOpen", got, err)
			}
		})
	}
	t.Run("the key does not print", func(t *testing.T) {
		if got := fmt.Sprintf("%v %+v %#v %s", hub, hub, hub, hub); got != "*** *** *** ***" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("by many at once", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 100 {
					b, err := s.Seal(aad, plain)
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := (seal.Ring{hub}).Open(aad, b); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestKeys(t *testing.T) {
	t.Run("without one nothing is sealed", func(t *testing.T) {
		if b, err := seal.NewSealer(time.Now).Seal(aad, plain); !errors.Is(err, seal.ErrNoKey) || b != nil {
			t.Errorf("got %x, %v", b, err)
		}
	})
	t.Run("of the wrong length are refused, and the one there stays", func(t *testing.T) {
		hub := key(t)
		s := sealer(t, hub)
		for _, bad := range [][]byte{nil, []byte("short"), make([]byte, 33)} {
			if err := s.Use(bad); err == nil {
				t.Errorf("%x is a key", bad)
			}
			if _, err := seal.ParseKey(bad); err == nil {
				t.Errorf("%x is a private key", bad)
			}
		}
		if got, err := (seal.Ring{hub}).Open(aad, closed(t, s)); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("change while old texts wait", func(t *testing.T) {
		older, newer := key(t), key(t)
		s := sealer(t, older)
		before := closed(t, s)
		if err := s.Use(newer.Public()); err != nil {
			t.Fatal(err)
		}
		after := closed(t, s)
		ring := seal.Ring{newer, older}
		for _, b := range [][]byte{before, after} {
			if got, err := ring.Open(aad, b); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("got %q, %v", got, err)
			}
		}
		if _, err := (seal.Ring{newer}).Open(aad, before); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("opened with the newer key alone: %v", err)
		}
		if id, _ := seal.KeyOf(after); id != newer.ID() {
			t.Errorf("sealed to %s, want %s", id, newer.ID())
		}
	})
}

// TestSecretIsRenewed checks for how long one encapsulated key serves, also when the clock jumps.
func TestSecretIsRenewed(t *testing.T) {
	now := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	hub := key(t)
	s := seal.NewSealer(func() time.Time { return now })
	if err := s.Use(hub.Public()); err != nil {
		t.Fatal(err)
	}
	header := func() string {
		b := closed(t, s)
		if got, err := (seal.Ring{hub}).Open(aad, b); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("got %q, %v", got, err)
		}
		return string(b[:seal.Overhead-12-16])
	}
	first := header()
	for _, tt := range []struct {
		name string
		pass time.Duration
		same bool
	}{
		{"at once", 0, true},
		{"within a day", 23 * time.Hour, true},
		{"after a day", 2 * time.Hour, false},
		{"when the clock is set forward", 50 * 365 * 24 * time.Hour, false},
		{"when the clock is set back", -time.Hour, false},
	} {
		now = now.Add(tt.pass)
		next := header()
		if same := next == first; same != tt.same {
			t.Errorf("%s: same is %v", tt.name, same)
		}
		first = next
	}
	if err := s.Use(hub.Public()); err != nil { // the same key again is no reason
		t.Fatal(err)
	}
	if next := header(); next != first {
		t.Error("renewed for the same key")
	}
}

// TestFirstRelease opens what boxes of the first release sealed, made the way they made it.
func TestFirstRelease(t *testing.T) {
	const info = "sportello/request/v1" // frozen
	hub := key(t)
	pub, err := hpke.DHKEM(ecdh.X25519()).NewPublicKey(hub.Public())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := hpke.Seal(pub, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(info), plain)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := (seal.Ring{key(t), hub}).OpenRequestV1(sealed); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("got %q, %v", got, err)
	}
	for _, ring := range []seal.Ring{nil, {key(t)}} {
		if got, err := ring.OpenRequestV1(sealed); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if got, err := (seal.Ring{hub}).Open(aad, sealed); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("opened as a text of today: %q, %v", got, err)
	}
}

// TestFrozen opens a text that was sealed when the form was new: events wait for years.
func TestFrozen(t *testing.T) {
	private, err := hex.DecodeString(frozenKey)
	if err != nil {
		t.Fatal(err)
	}
	hub, err := seal.ParseKey(private)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := hex.DecodeString(frozenText)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := (seal.Ring{hub}).Open(aad, sealed); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("got %q, %v", got, err)
	}
	v1, err := hex.DecodeString(frozenV1)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := (seal.Ring{hub}).OpenRequestV1(v1); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("first release: got %q, %v", got, err)
	}
}

const (
	frozenKey  = "f0321e0c4e9b5b7f3973afbecc7bd3d67553a39e64e1b91cf53758a446673940"
	frozenText = "02d01edb8f40f610086cbdb4815ab9892feec38f93f8fa325342106d49e202643c748b29ce5175c85dec8066e08c8ec382370d1343f5e6dff0da1030e17f78626927956bb7ca47006e4c277297a9bb888c328676e69e"
	frozenV1   = "6f30862868c8533d6b1ee6879ba4ac7727bb8a4e6d3d458e8f92582138494162d15bb3d956fe2e07b04e898df9c257b49f97091f476b3a0a01e5100f6295390242"
)

func FuzzOpen(f *testing.F) {
	hub := key(f)
	sealed := closed(f, sealer(f, hub))
	f.Add([]byte("garbage"))
	f.Add(sealed[:32])
	f.Add(append(slices.Clone(sealed[:seal.Overhead-28]), make([]byte, 40)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := (seal.Ring{hub}).Open(aad, b); err == nil && !bytes.Equal(b, sealed) {
			t.Errorf("%x opened: %q", b, got)
		}
		if got, err := (seal.Ring{hub}).OpenRequestV1(b); err == nil {
			t.Errorf("%x opened as one of the first release: %q", b, got)
		}
	})
}
