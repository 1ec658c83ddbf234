package sqlite_test

import (
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"sportello.example/sync/event"
	"sportello.example/sync/hub/pickup"
	"sportello.example/sync/seal"
	"sportello.example/sync/wire"
)

// sealV1 closes a text as boxes of the first release did.
func sealV1(k seal.PrivateKey, plain []byte) ([]byte, error) {
	pub, err := hpke.DHKEM(ecdh.X25519()).NewPublicKey(k.Public())
	if err != nil {
		return nil, err
	}
	return hpke.Seal(pub, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte("sportello/request/v1"), plain)
}

func TestRequests(t *testing.T) {
	h := open(t)
	harar, niguarda := h.add(t, "Harar"), h.add(t, "Niguarda")
	left := func(code string, certificates ...string) event.V1 {
		t.Helper()
		plain, err := json.Marshal(wire.Request{Code: code, Certificates: certificates, Recipient: "private"})
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := sealV1(h.key, plain)
		if err != nil {
			t.Fatal(err)
		}
		return event.V1{Kind: event.RequestLeft, Sealed: sealed, At: h.now, ClockOK: true}
	}
	seq := func(evs ...event.V1) []event.V1 {
		for i := range evs {
			evs[i].Seq = uint64(i + 1)
		}
		return evs
	}
	other, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := sealV1(other, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	evs := seq(left("234567", "residenza"), left("CFGHJM", "nascita"), event.V1{Kind: event.RequestLeft, Sealed: foreign}, left("AEIOU!"))
	if ack, err := h.deliver(t, harar, "ee", evs...); err != nil || ack.Seq != 4 {
		t.Fatalf("%+v, %v, want all stored, also what cannot be opened", ack, err)
	}
	if _, err := h.deliver(t, niguarda, "ee", seq(left("234567", "stato-di-famiglia"))...); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		box      uint32
		code     string
		wait     time.Duration
		answered bool   // else collected
		want     string // certificate
		err      error
	}{
		{"what was left here comes first", niguarda, "234567", 0, false, "stato-di-famiglia", nil},
		{"again, the login had failed", niguarda, "23 45 67", time.Hour, false, "stato-di-famiglia", nil},
		{"at another branch", harar, "cfghjm", 0, false, "nascita", nil},
		{"weeks later, the registry had been down", niguarda, "CFGHJM", 29 * 24 * time.Hour, false, "nascita", nil},
		{"answered", harar, "cfg-hjm", 0, true, "", nil},
		{"answered twice", harar, "CFGHJM", 14 * time.Minute, true, "", nil},
		{"again, the certificate was lost", harar, "CFGHJM", 0, false, "nascita", nil},
		{"answered at another branch", niguarda, "CFGHJM", 0, false, "", pickup.ErrNone},
		{"nothing left to answer at another branch", niguarda, "CFGHJM", 0, true, "", pickup.ErrNone},
		{"too late to ask again", harar, "CFGHJM", 2 * time.Minute, false, "", pickup.ErrNone},
		{"answered for the last time", harar, "CFGHJM", 0, true, "", pickup.ErrNone},
		{"delivered again, what was left here is there", harar, "234567", 0, false, "residenza", nil},
		{"answered here", niguarda, "234567", 0, true, "", nil},
		{"the other branch's is still there", harar, "234567", 0, false, "residenza", nil},
		{"a code nobody has", harar, "XXXXXX", 0, false, "", pickup.ErrNone},
		{"no code", harar, "", 0, false, "", pickup.ErrNone},
		{"letters there are not", niguarda, "AEIOU!", 0, false, "", pickup.ErrNone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.now = h.now.Add(tt.wait)
			var r wire.Request
			var err error
			if tt.answered {
				err = h.pickup.Answered(t.Context(), tt.box, tt.code)
			} else {
				r, err = h.pickup.Collect(t.Context(), tt.box, tt.code)
			}
			if !errors.Is(err, tt.err) || tt.err == nil && (err != nil || strings.Join(r.Certificates, " ") != tt.want) {
				t.Errorf("got %+v, %v, want %s, %v", r, err, tt.want, tt.err)
			}
			if _, err := h.deliver(t, harar, "ee", evs...); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("wrong codes are counted by box", func(t *testing.T) {
		h.now = h.now.Add(time.Hour)
		var err error
		for range 6 {
			_, err = h.pickup.Collect(t.Context(), harar, "XXXXXX")
		}
		if !errors.Is(err, pickup.ErrTooMany) {
			t.Errorf("sixth wrong code: %v", err)
		}
		if err := h.pickup.Answered(t.Context(), harar, "234567"); !errors.Is(err, pickup.ErrTooMany) {
			t.Errorf("nor does a certificate help guessing: %v", err)
		}
		if _, err := h.pickup.Collect(t.Context(), niguarda, "XXXXXX"); !errors.Is(err, pickup.ErrNone) {
			t.Errorf("another box: %v", err)
		}
	})
	t.Run("after a month it is gone", func(t *testing.T) {
		if _, err := h.deliver(t, harar, "e2", seq(left("333333", "x"))...); err != nil {
			t.Fatal(err)
		}
		h.now = h.now.Add(pickup.Keep + time.Hour)
		if _, err := h.pickup.Collect(t.Context(), harar, "333333"); !errors.Is(err, pickup.ErrNone) {
			t.Errorf("got %v", err)
		}
	})
}
