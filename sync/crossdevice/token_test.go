package crossdevice

import "testing"

// FuzzToken reads what is inside a token, which a fuzzer cannot reach through the seal.
func FuzzToken(f *testing.F) {
	f.Add([]byte{})
	f.Add(append(append([]byte{tokenVersion}, make([]byte, 15)...), "\x10RSSMRA80A01Y100Z\x05Maria\x05Rossi"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		tok, err := parseToken(b)
		if err == nil && tok.FiscalCode.IsZero() {
			t.Error("a token of nobody")
		}
	})
}
