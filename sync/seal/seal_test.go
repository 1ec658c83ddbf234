package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

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

func TestSeal(t *testing.T) {
	hub := key(t)
	plain := []byte(`{"code":"2345FG"}`)
	sealed, err := seal.Seal(hub.Public(), seal.InfoRequest, plain)
	if err != nil || len(sealed) != len(plain)+seal.Overhead {
		t.Fatalf("%d bytes, %v", len(sealed), err)
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
		if got, err := seal.Open(again, seal.InfoRequest, sealed); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("got %q, %v, want %q", got, err, plain)
		}
	})
	t.Run("nothing shows and no two are alike", func(t *testing.T) {
		again, err := seal.Seal(hub.Public(), seal.InfoRequest, plain)
		if err != nil || bytes.Equal(again, sealed) || bytes.Contains(sealed, []byte("2345FG")) {
			t.Errorf("%x, %x, %v", sealed, again, err)
		}
	})
	for _, tt := range []struct {
		name string
		key  seal.PrivateKey
		info string
		ct   []byte
	}{
		{"another key", key(t), seal.InfoRequest, sealed},
		{"another purpose", hub, "sportello/other", sealed},
		{"changed", hub, seal.InfoRequest, append(slices.Clone(sealed[:len(sealed)-1]), sealed[len(sealed)-1]^1)},
		{"cut", hub, seal.InfoRequest, sealed[:40]},
		{"cut inside the key", hub, seal.InfoRequest, sealed[:10]},
		{"empty", hub, seal.InfoRequest, nil},
		{"zero key", hub, seal.InfoRequest, make([]byte, 100)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := seal.Open(tt.key, tt.info, tt.ct); !errors.Is(err, seal.ErrOpen) {
				t.Errorf("got %q, %v, want ErrOpen", got, err)
			}
		})
	}
	t.Run("keys of the wrong length are refused", func(t *testing.T) {
		if _, err := seal.Seal([]byte("short"), "", nil); err == nil {
			t.Error("sealed to a short key")
		}
		if _, err := seal.ParseKey([]byte("short")); err == nil {
			t.Error("parsed a short key")
		}
	})
	t.Run("the key does not print", func(t *testing.T) {
		if got := fmt.Sprintf("%v %+v %#v %s", hub, hub, hub, hub); got != "*** *** *** ***" {
			t.Errorf("got %s", got)
		}
	})
}

func FuzzOpen(f *testing.F) {
	hub := key(f)
	sealed, err := seal.Seal(hub.Public(), "x", []byte("plain"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("garbage"))
	f.Add(sealed[:32])
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := seal.Open(hub, "x", b); err == nil && !bytes.Equal(b, sealed) {
			t.Errorf("%x opened: %q", b, got)
		}
	})
}
