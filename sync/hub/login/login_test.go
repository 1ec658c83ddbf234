package login_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sportello.example/sync/citizen"
	"sportello.example/sync/crossdevice"
	"sportello.example/sync/hub/login"
	"sportello.example/sync/wire"
)

// fleet is the hub's list of boxes, in a map.
type fleet map[uint32]login.Box

func (f fleet) LoginBox(_ context.Context, n uint32) (login.Box, error) {
	b, ok := f[n]
	if !ok {
		return login.Box{}, login.ErrUnknownBox
	}
	return b, nil
}

// hub is a Desk with box 7 (Biblioteca Harar) and box 8, and the clock and log it was given.
type hub struct {
	*login.Desk
	boxes  fleet
	master []byte
	pub    ed25519.PublicKey
	key    *ecdh.PrivateKey // of box 7
	log    bytes.Buffer
	offset time.Duration // of the hub's clock
}

func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{master: bytes.Repeat([]byte{5}, 32)}
	priv := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{6}, 32))
	h.pub = priv.Public().(ed25519.PublicKey)
	h.key = x25519(t, 7)
	h.boxes = fleet{
		7: {Branch: "Biblioteca Harar", Epoch: 2, Key: h.key.PublicKey()},
		8: {Branch: "Biblioteca Parco", Epoch: 0, Key: x25519(t, 8).PublicKey()},
	}
	desk, err := login.New(login.Config{
		Master: h.master, Key: priv, Boxes: h.boxes,
		Now: func() time.Time { return time.Now().Add(h.offset) },
		Log: slog.New(slog.NewTextHandler(&h.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Desk = desk
	return h
}

func x25519(t *testing.T, b byte) *ecdh.PrivateKey {
	t.Helper()
	k, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// box is the box's side of box 7, in the given epoch.
func (h *hub) box(epoch uint16, clockOK bool) *crossdevice.Box {
	return crossdevice.NewBox(crossdevice.BoxConfig{
		Number: 7, Epoch: epoch, Keys: crossdevice.Derive(h.master, 7, epoch), Now: time.Now,
		ClockOK: func() bool { return clockOK },
	})
}

func proof(t *testing.T) citizen.IdentityProof {
	t.Helper()
	f, err := citizen.ParseFiscalCode("RSSMRA80A01Y100Z")
	if err != nil {
		t.Fatal(err)
	}
	return citizen.IdentityProof{
		Scheme: citizen.SPID, Level: 2, FiscalCode: f, Name: citizen.NewName("Maria"), FamilyName: citizen.NewName("Rossi"),
	}
}

func show(t *testing.T, b *crossdevice.Box) (crossdevice.Challenge, string) {
	t.Helper()
	c, qr, err := b.New(2)
	if err != nil {
		t.Fatal(err)
	}
	return c, qr
}

func open(t *testing.T, h *hub, qr string) login.Visit {
	t.Helper()
	v, err := h.Open(t.Context(), qr)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestFromQRToIdentity(t *testing.T) {
	h := newHub(t)
	b := h.box(2, true)
	c, qr := show(t, b)
	v := open(t, h, qr)
	if v.Branch != "Biblioteca Harar" || v.Kiosk != 2 || v.ClockUnknown {
		t.Errorf("got %+v", v)
	}
	code, err := h.Complete(t.Context(), v, proof(t))
	if err != nil {
		t.Fatal(err)
	}
	level, typed, err := b.Enter(2, code)
	if err != nil || level != 2 {
		t.Fatalf("level %d, %v", level, err)
	}
	res, err := h.Result(t.Context(), 7, c.NonceHex(), 0)
	if err != nil || res.State != wire.LoginDone {
		t.Fatalf("got %v, %v", res.State, err)
	}
	tok, err := crossdevice.OpenToken(res.Token, h.pub, h.key, typed, time.Now())
	if err != nil || tok.FiscalCode != proof(t).FiscalCode || tok.FamilyName.Reveal() != "Rossi" {
		t.Errorf("token: %v", err)
	}
	if f, err := h.Citizen(t.Context(), 7, c.NonceHex()); err != nil || f != "RSSMRA80A01Y100Z" {
		t.Errorf("citizen: %q, %v", f, err)
	}
	for _, secret := range []string{"RSSMRA", "Maria", code} {
		if strings.Contains(h.log.String(), secret) {
			t.Errorf("the log holds %q: %s", secret, h.log.String())
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		qr   func(t *testing.T, h *hub) string
		want error
	}{
		{"the epoch before is accepted", func(t *testing.T, h *hub) string {
			_, qr := show(t, h.box(1, true))
			return qr
		}, nil},
		{"no challenge at all", func(*testing.T, *hub) string { return "HELLO" }, login.ErrForged},
		{"edited", func(t *testing.T, h *hub) string {
			_, qr := show(t, h.box(2, true))
			return qr[:20] + strings.Map(func(r rune) rune {
				if r == 'A' {
					return 'B'
				}
				return 'A'
			}, qr[20:21]) + qr[21:]
		}, login.ErrForged},
		{"two epochs old", func(t *testing.T, h *hub) string {
			_, qr := show(t, h.box(0, true))
			return qr
		}, login.ErrForged},
		{"an epoch to come", func(t *testing.T, h *hub) string {
			_, qr := show(t, h.box(3, true))
			return qr
		}, login.ErrForged},
		{"another hub's", func(t *testing.T, h *hub) string {
			k := crossdevice.Derive(bytes.Repeat([]byte{9}, 32), 7, 2)
			return crossdevice.Challenge{Box: 7, Epoch: 2, Kiosk: 1}.Encode(k)
		}, login.ErrForged},
		{"revoked box", func(t *testing.T, h *hub) string {
			_, qr := show(t, h.box(2, true))
			delete(h.boxes, 7)
			return qr
		}, login.ErrRevoked},
		{"photographed a while ago", func(t *testing.T, h *hub) string {
			_, qr := show(t, h.box(2, true))
			h.offset = 16 * time.Minute
			return qr
		}, login.ErrExpired},
		{"from the future", func(t *testing.T, h *hub) string {
			_, qr := show(t, h.box(2, true))
			h.offset = -16 * time.Minute
			return qr
		}, login.ErrExpired},
		{"a box known to be two hours slow", func(t *testing.T, h *hub) string {
			_, qr := show(t, h.box(2, true))
			h.offset = 2 * time.Hour
			b := h.boxes[7]
			b.Drift = -2 * time.Hour
			h.boxes[7] = b
			return qr
		}, nil},
		{"a box without a clock", func(t *testing.T, h *hub) string {
			_, qr := show(t, h.box(2, false))
			h.offset = 1000 * time.Hour
			return qr
		}, nil},
		{"used", func(t *testing.T, h *hub) string {
			_, qr := show(t, h.box(2, true))
			if _, err := h.Complete(t.Context(), open(t, h, qr), proof(t)); err != nil {
				t.Fatal(err)
			}
			return qr
		}, login.ErrUsed},
		{"used hours ago, without a clock", func(t *testing.T, h *hub) string {
			_, qr := show(t, h.box(2, false))
			if _, err := h.Complete(t.Context(), open(t, h, qr), proof(t)); err != nil {
				t.Fatal(err)
			}
			h.offset = 11 * time.Hour
			return qr
		}, login.ErrUsed},
		{"cancelled", func(t *testing.T, h *hub) string {
			_, qr := show(t, h.box(2, true))
			_ = h.Cancel(t.Context(), open(t, h, qr))
			return qr
		}, login.ErrCancelled},
		{"refused by the identity provider", func(t *testing.T, h *hub) string {
			_, qr := show(t, h.box(2, true))
			_ = h.Refuse(t.Context(), open(t, h, qr))
			return qr
		}, login.ErrCancelled},
		{"looked at twice", func(t *testing.T, h *hub) string {
			_, qr := show(t, h.box(2, true))
			open(t, h, qr)
			return qr
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHub(t)
			if _, err := h.Open(t.Context(), tt.qr(t, h)); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestOneOfFiftyLoginsWins(t *testing.T) {
	h := newHub(t)
	_, qr := show(t, h.box(2, true))
	var wins, used atomic.Int32
	var wg sync.WaitGroup
	p := proof(t)
	visits := make([]login.Visit, 50)
	for i := range visits {
		visits[i] = open(t, h, qr)
	}
	for _, v := range visits {
		wg.Go(func() {
			_, err := h.Complete(context.Background(), v, p)
			switch {
			case err == nil:
				wins.Add(1)
			case errors.Is(err, login.ErrUsed):
				used.Add(1)
			default:
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 || used.Load() != 49 {
		t.Errorf("%d winners, %d told it is used", wins.Load(), used.Load())
	}
}

func TestCompleteRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(h *hub, v login.Visit)
		want error
	}{
		{"cancelled meanwhile", func(h *hub, v login.Visit) { _ = h.Cancel(context.Background(), v) }, login.ErrCancelled},
		{"too late for the kiosk", func(h *hub, v login.Visit) { h.offset = 9 * time.Minute }, login.ErrExpired},
		{"revoked meanwhile", func(h *hub, v login.Visit) { delete(h.boxes, 7) }, login.ErrRevoked},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHub(t)
			_, qr := show(t, h.box(2, true))
			v := open(t, h, qr)
			tt.do(h, v)
			if code, err := h.Complete(t.Context(), v, proof(t)); code != "" || !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	t.Run("level 1", func(t *testing.T) {
		h := newHub(t)
		_, qr := show(t, h.box(2, true))
		p := proof(t)
		p.Level = 1
		if _, err := h.Complete(t.Context(), open(t, h, qr), p); err == nil {
			t.Error("accepted")
		}
	})
}

func TestNotMe(t *testing.T) {
	h := newHub(t)
	c, qr := show(t, h.box(2, true))
	v := open(t, h, qr)
	if _, err := h.Complete(t.Context(), v, proof(t)); err != nil {
		t.Fatal(err)
	}
	_ = h.Cancel(t.Context(), v) // anybody who saw the QR could say this
	if _, err := h.Citizen(t.Context(), 7, c.NonceHex()); err != nil {
		t.Error("cancelling undoes a login")
	}
	if err := h.NotMe(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Citizen(t.Context(), 7, c.NonceHex()); !errors.Is(err, login.ErrNobody) {
		t.Error("the hub may still act for the citizen")
	}
	if res, err := h.Result(t.Context(), 7, c.NonceHex(), 0); err != nil || res.State != wire.LoginCancelled || res.Token != nil {
		t.Errorf("got %v, %v", res.State, err)
	}
	if !strings.Contains(h.log.String(), "level=ERROR") {
		t.Error("no alarm")
	}
}

func TestResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		c, qr := show(t, h.box(2, true))
		begin := time.Now()
		if res, err := h.Result(t.Context(), 7, c.NonceHex(), 5*time.Second); err != nil || res.State != wire.LoginWaiting || time.Since(begin) != 5*time.Second {
			t.Errorf("nobody came: %v, %v after %v", res.State, err, time.Since(begin))
		}
		begin = time.Now()
		if _, err := h.Result(t.Context(), 7, c.NonceHex(), time.Hour); err != nil || time.Since(begin) != login.MaxWait {
			t.Errorf("waited %v, %v", time.Since(begin), err)
		}
		v := open(t, h, qr)
		go func() {
			time.Sleep(3 * time.Second)
			if _, err := h.Complete(context.Background(), v, proof(t)); err != nil {
				t.Error(err)
			}
		}()
		begin = time.Now()
		res, err := h.Result(t.Context(), 7, c.NonceHex(), 20*time.Second)
		if err != nil || res.State != wire.LoginDone || time.Since(begin) != 3*time.Second {
			t.Errorf("somebody came: %v, %v after %v", res.State, err, time.Since(begin))
		}
		if again, err := h.Result(t.Context(), 7, c.NonceHex(), 0); err != nil || !bytes.Equal(again.Token, res.Token) {
			t.Errorf("a box that lost the answer cannot ask again: %v", err)
		}
		if other, err := h.Result(t.Context(), 8, c.NonceHex(), 0); err != nil || other.State != wire.LoginWaiting {
			t.Errorf("another box sees %v, %v", other.State, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := h.Result(ctx, 7, strings.Repeat("ab", 10), time.Second); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context canceled", err)
		}
		for _, bad := range []string{"", "xyz", strings.Repeat("ab", 11), strings.Repeat("zz", 10)} {
			if _, err := h.Result(t.Context(), 7, bad, 0); !errors.Is(err, login.ErrMalformed) {
				t.Errorf("%q: got %v, want ErrMalformed", bad, err)
			}
		}
	})
}

func TestIdentityIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		c, qr := show(t, h.box(2, true))
		if _, err := h.Complete(t.Context(), open(t, h, qr), proof(t)); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { defer close(done); _ = h.Run(ctx) }()
		time.Sleep(10*time.Minute - time.Second)
		if _, err := h.Citizen(t.Context(), 7, c.NonceHex()); err != nil {
			t.Error("forgotten too early")
		}
		time.Sleep(2 * time.Second)
		if _, err := h.Citizen(t.Context(), 7, c.NonceHex()); !errors.Is(err, login.ErrNobody) {
			t.Error("still known after ten minutes")
		}
		if res, err := h.Result(t.Context(), 7, c.NonceHex(), 0); err != nil || res.Token != nil {
			t.Errorf("the token is still there: %v", err)
		}
		if _, err := h.Open(t.Context(), qr); !errors.Is(err, login.ErrUsed) {
			t.Errorf("the QR: got %v, want ErrUsed", err)
		}
		cancel()
		<-done
	})
}

func TestOneBoxCannotFillTheMemory(t *testing.T) {
	h := newHub(t)
	var err error
	n := 0
	for ; err == nil && n < 100_000; n++ {
		_, err = h.Result(t.Context(), 7, fmt.Sprintf("%020x", n), 0)
	}
	if !errors.Is(err, login.ErrBusy) {
		t.Errorf("%d challenges: %v", n, err)
	}
	if _, err := h.Result(t.Context(), 8, fmt.Sprintf("%020x", 1), 0); err != nil {
		t.Errorf("another box: %v", err)
	}
	h.offset = time.Hour
	if _, err := h.Result(t.Context(), 7, fmt.Sprintf("%020x", 1), 0); err != nil {
		t.Errorf("an hour later: %v", err)
	}
}

// The hub computes what the box computes: the vectors are those of package crossdevice.
func TestVectors(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "..", "testdata", "crossdevice", "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Master     string
		Challenges []struct {
			Box     uint32
			Epoch   uint16
			T       int64
			Encoded string
			CodeL2  string `json:"code_l2"`
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	master, err := hex.DecodeString(file.Master)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range file.Challenges {
		now := time.Unix(v.T, 0)
		desk, err := login.New(login.Config{
			Master: master, Key: ed25519.NewKeyFromSeed(make([]byte, 32)),
			Boxes: fleet{v.Box: {Branch: "X", Epoch: v.Epoch, Key: x25519(t, 1).PublicKey()}},
			Now:   func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		visit, err := desk.Open(t.Context(), v.Encoded)
		if err != nil {
			t.Fatalf("%s: %v", v.Encoded, err)
		}
		if code, err := desk.Complete(t.Context(), visit, proof(t)); err != nil || code != v.CodeL2 {
			t.Errorf("%s: got %s, %v, want %s", v.Encoded, code, err, v.CodeL2)
		}
	}
}
