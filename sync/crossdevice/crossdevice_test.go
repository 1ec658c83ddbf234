package crossdevice_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sportello.example/sync/citizen"
	"sportello.example/sync/crossdevice"
)

var update = flag.Bool("update", false, "rewrite the vector file")

// vectors are shared with the hub's tests: both sides must compute the same.
type vectors struct {
	Master     string      `json:"master"`
	HubKey     string      `json:"hub_ed25519_seed"`
	BoxKey     string      `json:"box_x25519_private"`
	Challenges []challenge `json:"challenges"`
}

type challenge struct {
	Box      uint32 `json:"box"`
	Epoch    uint16 `json:"epoch"`
	Kiosk    uint8  `json:"kiosk"`
	T        uint32 `json:"t"`
	Nonce    string `json:"nonce"`
	KeyQR    string `json:"key_qr"`
	KeyCode  string `json:"key_code"`
	Encoded  string `json:"encoded"`
	URL      string `json:"url"`
	CodeL2   string `json:"code_l2"`
	CodeL3   string `json:"code_l3"`
	Token    string `json:"token"`
	TokenExp uint32 `json:"token_exp"`
}

const vectorHub = "https://sportello.comune.example"

func vectorFile() string {
	return filepath.Join("..", "..", "testdata", "crossdevice", "vectors.json")
}

func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	raw, err := os.ReadFile(vectorFile())
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	master, hubPub, boxKey := unhex(t, v.Master), hubKey(t, v.HubKey).Public().(ed25519.PublicKey), x25519(t, v.BoxKey)
	for _, w := range v.Challenges {
		t.Run(w.Encoded, func(t *testing.T) {
			k := crossdevice.Derive(master, w.Box, w.Epoch)
			if got := hex.EncodeToString(k.QR) + " " + hex.EncodeToString(k.Code); got != w.KeyQR+" "+w.KeyCode {
				t.Errorf("keys: got %s", got)
			}
			c := crossdevice.Challenge{
				Epoch: w.Epoch, Box: w.Box, Kiosk: w.Kiosk, T: w.T, Nonce: [10]byte(unhex(t, w.Nonce)),
			}
			if got := c.Encode(k); got != w.Encoded {
				t.Errorf("encoded: got %s", got)
			}
			if got := crossdevice.URL(vectorHub, w.Encoded); got != w.URL {
				t.Errorf("URL: got %s, want %s", got, w.URL)
			}
			back, err := crossdevice.Decode(strings.ToLower(w.Encoded), lookup(k, w.Box, w.Epoch))
			if err != nil || back != c {
				t.Errorf("decoded: got %+v, %v", back, err)
			}
			if got := crossdevice.Code(k, c, crossdevice.Level2); got != w.CodeL2 {
				t.Errorf("code L2: got %s, want %s", got, w.CodeL2)
			}
			if got := crossdevice.Code(k, c, crossdevice.Level3); got != w.CodeL3 {
				t.Errorf("code L3: got %s, want %s", got, w.CodeL3)
			}
			tok, err := crossdevice.OpenToken(unhex(t, w.Token), hubPub, boxKey, c, time.Unix(int64(w.TokenExp), 0))
			if err != nil {
				t.Fatalf("token: %v", err)
			}
			if tok.FiscalCode.Reveal() != "RSSMRA80A01Y100Z" || tok.Name.Reveal() != "Maria" || tok.Level != 2 {
				t.Errorf("token: %s %s level %d", tok.FiscalCode.Reveal(), tok.Name.Reveal(), tok.Level)
			}
		})
	}
}

func writeVectors(t *testing.T) {
	t.Helper()
	v := vectors{
		Master: hex.EncodeToString(bytes.Repeat([]byte{0x5a}, 32)),
		HubKey: hex.EncodeToString(bytes.Repeat([]byte{0x11}, 32)),
		BoxKey: hex.EncodeToString(bytes.Repeat([]byte{0x22}, 32)),
	}
	for i, c := range []crossdevice.Challenge{
		{Epoch: 1, Box: 0xA1, Kiosk: 2, T: 1795000000, Nonce: [10]byte([]byte("0123456789"))},
		{Epoch: 0, Box: 1, Kiosk: 1, T: 0, Nonce: [10]byte{}},
		{Epoch: 0xffff, Box: 0xffffffff, Kiosk: 0xff, T: 0xffffffff, Nonce: [10]byte(bytes.Repeat([]byte{0xff}, 10))},
	} {
		k := crossdevice.Derive(unhex(t, v.Master), c.Box, c.Epoch)
		exp := uint32(1795000600 + i)
		sealed, err := crossdevice.SealToken(token(t, c, exp), hubKey(t, v.HubKey), x25519(t, v.BoxKey).PublicKey(), c)
		if err != nil {
			t.Fatal(err)
		}
		v.Challenges = append(v.Challenges, challenge{
			Box: c.Box, Epoch: c.Epoch, Kiosk: c.Kiosk, T: c.T, Nonce: c.NonceHex(),
			KeyQR: hex.EncodeToString(k.QR), KeyCode: hex.EncodeToString(k.Code),
			Encoded: c.Encode(k), URL: crossdevice.URL(vectorHub, c.Encode(k)),
			CodeL2: crossdevice.Code(k, c, 2), CodeL3: crossdevice.Code(k, c, 3),
			Token: hex.EncodeToString(sealed), TokenExp: exp,
		})
	}
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(vectorFile()), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorFile(), append(out, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	k := crossdevice.Derive(bytes.Repeat([]byte{1}, 32), 7, 3)
	good := crossdevice.Challenge{Epoch: 3, Box: 7, Kiosk: 2, T: 99, Nonce: [10]byte{1}}.Encode(k)
	other := crossdevice.Derive(bytes.Repeat([]byte{2}, 32), 7, 3)
	for _, tt := range []struct {
		name, in string
		want     error
	}{
		{"empty", "", crossdevice.ErrMalformed},
		{"too short", good[:47], crossdevice.ErrMalformed},
		{"too long", good + "A", crossdevice.ErrMalformed},
		{"not base32", "1" + good[1:], crossdevice.ErrMalformed},
		{"another version", "B" + good[1:], crossdevice.ErrMalformed},
		{"one character changed", good[:30] + flip(good[30:31]) + good[31:], crossdevice.ErrForged},
		{"made with other keys", crossdevice.Challenge{Epoch: 3, Box: 7}.Encode(other), crossdevice.ErrForged},
		{"another box", crossdevice.Challenge{Epoch: 3, Box: 8}.Encode(k), crossdevice.ErrForged},
		{"another epoch", crossdevice.Challenge{Epoch: 4, Box: 7}.Encode(k), crossdevice.ErrForged},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := crossdevice.Decode(tt.in, lookup(k, 7, 3)); !errors.Is(err, tt.want) {
				t.Errorf("%q: got %v, want %v", tt.in, err, tt.want)
			}
		})
	}
}

func TestEveryBitOfTheChallengeIsProtected(t *testing.T) {
	k := crossdevice.Derive(bytes.Repeat([]byte{1}, 32), 7, 3)
	good := crossdevice.Challenge{Epoch: 3, Box: 7, Kiosk: 2, T: 99, Nonce: [10]byte{1}}.Encode(k)
	all := func(uint32, uint16) (crossdevice.Keys, bool) { return k, true }
	for i := range good {
		if _, err := crossdevice.Decode(good[:i]+flip(good[i:i+1])+good[i+1:], all); err == nil {
			t.Errorf("character %d may be changed", i)
		}
	}
}

func TestTokenIsRefused(t *testing.T) {
	hub := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	otherHub := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))
	box, otherBox := x25519(t, strings.Repeat("33", 32)), x25519(t, strings.Repeat("44", 32))
	c := crossdevice.Challenge{Box: 7, Kiosk: 2, Nonce: [10]byte{9}}
	seal := func(tok crossdevice.Token, hub ed25519.PrivateKey, c crossdevice.Challenge) []byte {
		b, err := crossdevice.SealToken(tok, hub, box.PublicKey(), c)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := seal(token(t, c, 1000), hub, c)
	flipped := bytes.Clone(good)
	flipped[len(flipped)-20] ^= 1
	kiosk3, nonce8 := c, c
	kiosk3.Kiosk, nonce8.Nonce = 3, [10]byte{8}
	for _, tt := range []struct {
		name   string
		sealed []byte
		box    *ecdh.PrivateKey
		c      crossdevice.Challenge
		now    int64
		want   error
	}{
		{"opens until its last second", good, box, c, 1000, nil},
		{"expired", good, box, c, 1001, crossdevice.ErrTokenExpired},
		{"another box", good, otherBox, c, 1000, crossdevice.ErrTokenSealed},
		{"another kiosk", good, box, kiosk3, 1000, crossdevice.ErrTokenSealed},
		{"another challenge", good, box, nonce8, 1000, crossdevice.ErrTokenNonce},
		{"one bit changed", flipped, box, c, 1000, crossdevice.ErrTokenSealed},
		{"signed by somebody else", seal(token(t, c, 1000), otherHub, c), box, c, 1000, crossdevice.ErrTokenSignature},
		{"without a fiscal code", seal(crossdevice.Token{Nonce: c.Nonce, Exp: 1000}, hub, c), box, c, 1000, crossdevice.ErrTokenMalformed},
		{"empty", nil, box, c, 1000, crossdevice.ErrTokenSealed},
		{"huge", make([]byte, 1<<20), box, c, 1000, crossdevice.ErrTokenMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := crossdevice.OpenToken(tt.sealed, hub.Public().(ed25519.PublicKey), tt.box, tt.c, time.Unix(tt.now, 0))
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	t.Run("a box that does not believe its clock", func(t *testing.T) {
		if _, err := crossdevice.OpenToken(good, hub.Public().(ed25519.PublicKey), box, c, time.Time{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("a name too long is not sealed", func(t *testing.T) {
		tok := token(t, c, 1000)
		tok.Name = citizen.NewName(strings.Repeat("a", 256))
		if _, err := crossdevice.SealToken(tok, hub, box.PublicKey(), c); err == nil {
			t.Error("sealed")
		}
	})
}

func FuzzDecode(f *testing.F) {
	k := crossdevice.Derive(bytes.Repeat([]byte{1}, 32), 7, 3)
	f.Add(crossdevice.Challenge{Epoch: 3, Box: 7, Kiosk: 2, T: 99}.Encode(k))
	f.Add("")
	f.Add(strings.Repeat("A", 48))
	f.Fuzz(func(t *testing.T, s string) {
		c, err := crossdevice.Decode(s, lookup(k, 7, 3))
		if err == nil && c.Encode(k) != strings.ToUpper(s) {
			t.Errorf("%q does not read back", s)
		}
	})
}

func FuzzOpenToken(f *testing.F) {
	raw, err := os.ReadFile(vectorFile())
	if err != nil {
		f.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(raw, &v); err != nil {
		f.Fatal(err)
	}
	w := v.Challenges[0]
	c := crossdevice.Challenge{Epoch: w.Epoch, Box: w.Box, Kiosk: w.Kiosk, T: w.T, Nonce: [10]byte(unhex(f, w.Nonce))}
	hub, box, good := hubKey(f, v.HubKey).Public().(ed25519.PublicKey), x25519(f, v.BoxKey), unhex(f, w.Token)
	f.Add(good)
	f.Fuzz(func(t *testing.T, sealed []byte) {
		_, err := crossdevice.OpenToken(sealed, hub, box, c, time.Unix(1, 0))
		if err == nil && !bytes.Equal(sealed, good) {
			t.Error("a token that nobody sealed opened")
		}
	})
}

func BenchmarkCode(b *testing.B) {
	k := crossdevice.Derive(make([]byte, 32), 1, 1)
	for b.Loop() {
		crossdevice.Code(k, crossdevice.Challenge{Box: 1}, crossdevice.Level2)
	}
}

func lookup(k crossdevice.Keys, box uint32, epoch uint16) func(uint32, uint16) (crossdevice.Keys, bool) {
	return func(b uint32, e uint16) (crossdevice.Keys, bool) { return k, b == box && e == epoch }
}

func flip(s string) string {
	if s == "A" {
		return "B"
	}
	return "A"
}

func token(t *testing.T, c crossdevice.Challenge, exp uint32) crossdevice.Token {
	t.Helper()
	code, err := citizen.ParseFiscalCode("RSSMRA80A01Y100Z")
	if err != nil {
		t.Fatal(err)
	}
	return crossdevice.Token{
		Nonce: c.Nonce, Exp: exp, Level: crossdevice.Level2,
		FiscalCode: code, Name: citizen.NewName("Maria"), FamilyName: citizen.NewName("De Rossi"),
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func hubKey(t testing.TB, seed string) ed25519.PrivateKey {
	t.Helper()
	return ed25519.NewKeyFromSeed(unhex(t, seed))
}

func x25519(t testing.TB, private string) *ecdh.PrivateKey {
	t.Helper()
	k, err := ecdh.X25519().NewPrivateKey(unhex(t, private))
	if err != nil {
		t.Fatal(err)
	}
	return k
}
