package envelope_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"sportello.example/sync/envelope"
)

var chain = envelope.Chain{Epoch: "00112233445566778899aabbccddeeff", Stream: envelope.Legal}

func sample() envelope.Envelope {
	return envelope.Envelope{
		Box: 7, Chain: chain, Seq: 300, Kind: "request.left", Schema: 2,
		At:   envelope.Stamp{Wall: time.Date(2026, 11, 22, 9, 0, 0, 123e6, time.UTC), Boot: 12, Mono: 90 * time.Second, Quality: envelope.Synced},
		Body: []byte(`{"kiosk":1}`), Sealed: []byte{1, 2, 3},
	}
}

func encode(t testing.TB, e envelope.Envelope) []byte {
	t.Helper()
	b, err := e.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestFrozen holds the bytes of version 1. They are on the disks of boxes: this must never need to be changed.
func TestFrozen(t *testing.T) {
	const want = "01071000112233445566778899aabbccddeeff01ac020c726571756573742e6c65667402f6dbdea7c0680c90bf05020b7b226b696f736b223a317d03010203"
	b := encode(t, sample())
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := envelope.Genesis(chain); hexOf(t, got) != "f673b2e94db2c0d1415d2fe50197ba7101c770b5037b71b98a30171f818f5653" {
		t.Errorf("genesis %s", hexOf(t, got))
	}
}

func hexOf(t *testing.T, h envelope.Hash) string {
	t.Helper()
	b, err := h.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRoundTrip(t *testing.T) {
	whole := sample()
	for _, tt := range []struct {
		name   string
		change func(*envelope.Envelope)
	}{
		{"whole", func(*envelope.Envelope) {}},
		{"not enrolled", func(e *envelope.Envelope) { e.Box = 0 }},
		{"largest numbers", func(e *envelope.Envelope) {
			e.Box, e.Seq, e.At.Boot, e.Schema, e.At.Quality = math.MaxUint32, envelope.MaxSeq, math.MaxUint32, 255, 255
		}},
		{"1970", func(e *envelope.Envelope) { e.At = envelope.Stamp{Wall: time.UnixMilli(0).UTC()} }},
		{"before 1970", func(e *envelope.Envelope) { e.At.Wall = time.Date(1901, 1, 1, 0, 0, 0, 0, time.UTC) }},
		{"epoch of the first release", func(e *envelope.Envelope) { e.Chain.Epoch, e.Chain.Stream = "0011223344556677", envelope.All }},
		{"stream of a later release", func(e *envelope.Envelope) { e.Chain.Stream = 200 }},
		{"nothing in it", func(e *envelope.Envelope) { e.Body, e.Sealed = []byte{}, []byte{} }},
		{"longest kind", func(e *envelope.Envelope) { e.Kind = strings.Repeat("k", envelope.MaxKind) }},
		{"kind that is not text", func(e *envelope.Envelope) { e.Kind = "\xff\x00" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := whole
			tt.change(&want)
			got, err := envelope.Parse(encode(t, want))
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
		})
	}
}

func TestCannotBeEncoded(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*envelope.Envelope)
	}{
		{"no number", func(e *envelope.Envelope) { e.Seq = 0 }},
		{"number too large", func(e *envelope.Envelope) { e.Seq = envelope.MaxSeq + 1 }},
		{"no kind", func(e *envelope.Envelope) { e.Kind = "" }},
		{"kind too long", func(e *envelope.Envelope) { e.Kind = strings.Repeat("k", envelope.MaxKind+1) }},
		{"no epoch", func(e *envelope.Envelope) { e.Chain.Epoch = "" }},
		{"epoch in capitals", func(e *envelope.Envelope) { e.Chain.Epoch = "AABB" }},
		{"epoch too long", func(e *envelope.Envelope) { e.Chain.Epoch = envelope.Epoch(strings.Repeat("00", 33)) }},
		{"too long", func(e *envelope.Envelope) { e.Body = make([]byte, envelope.MaxEncoded) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := sample()
			tt.change(&e)
			before := []byte("before")
			if got, err := e.Append(before); !errors.Is(err, envelope.ErrMalformed) || !bytes.Equal(got, before) {
				t.Errorf("got %x, %v", got, err)
			}
		})
	}
}

func TestCannotBeParsed(t *testing.T) {
	b := encode(t, sample())
	for n := range b {
		if _, err := envelope.Parse(b[:n]); !errors.Is(err, envelope.ErrMalformed) {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
	for _, tt := range []struct {
		name string
		b    []byte
	}{
		{"something behind it", append(bytes.Clone(b), 0)},
		{"another version", append([]byte{2}, b[1:]...)},
		{"too long", make([]byte, envelope.MaxEncoded+1)},
		{"a number in a longer form", append([]byte{1, 0x87, 0}, b[2:]...)},
		{"a length beyond the end", append([]byte{1, 7, 255}, b[3:]...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if e, err := envelope.Parse(tt.b); !errors.Is(err, envelope.ErrMalformed) {
				t.Errorf("got %+v, %v", e, err)
			}
		})
	}
}

func TestAAD(t *testing.T) {
	e := sample()
	want := e.AAD()
	for _, tt := range []struct {
		name   string
		same   bool
		change func(*envelope.Envelope)
	}{
		{"another time and body", true, func(e *envelope.Envelope) { e.At.Boot++; e.Body = nil; e.Sealed = nil }},
		{"another number", false, func(e *envelope.Envelope) { e.Seq++ }},
		{"another box", false, func(e *envelope.Envelope) { e.Box++ }},
		{"another stream", false, func(e *envelope.Envelope) { e.Chain.Stream++ }},
		{"another epoch", false, func(e *envelope.Envelope) { e.Chain.Epoch = "00" }},
		{"another kind", false, func(e *envelope.Envelope) { e.Kind = "request.lefu" }},
	} {
		e := sample()
		tt.change(&e)
		if got := bytes.Equal(e.AAD(), want); got != tt.same {
			t.Errorf("%s: same is %v", tt.name, got)
		}
	}
}

func TestChain(t *testing.T) {
	b := encode(t, sample())
	g := envelope.Genesis(chain)
	h := g.Next(b)
	if h == g || h == g.Next(append(bytes.Clone(b), 0)) || h == envelope.Genesis(envelope.Chain{Epoch: "00"}).Next(b) {
		t.Error("different histories have one hash")
	}
	var back envelope.Hash
	if err := back.UnmarshalText([]byte(hexOf(t, h))); err != nil || back != h {
		t.Errorf("got %s, %v, want %s", back, err, h)
	}
	for _, bad := range []string{"", "00", strings.Repeat("g", 64), strings.Repeat("0", 66)} {
		if err := back.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is a hash", bad)
		}
	}
}

func TestStreams(t *testing.T) {
	for s := range 256 {
		want := envelope.Stream(s) //nolint:gosec // there are 256
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got envelope.Stream
		if err := json.Unmarshal(b, &got); err != nil || got != want || want.Known() != (s <= 4) {
			t.Errorf("%s: got %d, %v, want %d", b, got, err, want)
		}
	}
	for _, bad := range []string{"", "consent", "stream 256", "stream -1", "stream 7x", "stream 2", "stream"} {
		var s envelope.Stream
		if err := s.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is stream %s", bad, s)
		}
	}
}

func TestEpoch(t *testing.T) {
	a, b := envelope.NewEpoch(), envelope.NewEpoch()
	if a == b || !a.Valid() || len(a) != 32 {
		t.Errorf("%s, %s", a, b)
	}
	for _, bad := range []envelope.Epoch{"", "0", "0g", "AA", "00 ", envelope.Epoch(strings.Repeat("00", 33))} {
		if bad.Valid() {
			t.Errorf("%q is valid", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	b := encode(f, sample())
	f.Add(b)
	f.Add(b[:20])
	e := sample()
	e.Box, e.Body, e.Sealed, e.At = 0, nil, nil, envelope.Stamp{Wall: time.UnixMilli(-1)}
	f.Add(encode(f, e))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := envelope.Parse(b)
		if err != nil {
			if !errors.Is(err, envelope.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		// There is one way to write an event, and what can be read can be written.
		if got, err := e.Append(nil); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%x was read as %+v and written as %x (%v)", b, e, got, err)
		}
	})
}
