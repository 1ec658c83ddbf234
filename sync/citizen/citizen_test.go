package citizen_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"sportello.example/sync/citizen"
)

func TestParseFiscalCode(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		ok       bool
	}{
		{"personal code", "RSSMRA80A01Y100Z", true},
		{"lower case and spaces", "  rssmra80a01y100z ", true},
		{"letters in place of digits", "RSSMRA80A01Y10LC", true},
		{"a woman's day", "VRDNNA75E55Y200Q", true},
		{"29 February of a leap year", "BNCLCU00B29Y300G", true},
		{"provisional", "01199250158", true},
		{"empty", "", false},
		{"wrong check letter", "RSSMRA80A01Y100X", false},
		{"wrong month", "RSSMRA80F01Y100Z", false},
		{"31 April", "RSSMRA80D31Y100I", false},
		{"provisional with a wrong digit", "01199250159", false},
		{"provisional of zeros", "00000000000", false},
		{"something else", "'; DROP TABLE --", false},
		{"not ASCII", "RSSMRÀ80A01Y100", false},
		{"very long", strings.Repeat("A", 1000), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := citizen.ParseFiscalCode(tt.in)
			if tt.ok && (err != nil || f.Reveal() != strings.ToUpper(strings.TrimSpace(tt.in))) {
				t.Errorf("%q: got %q, %v", tt.in, f.Reveal(), err)
			}
			if !tt.ok && !errors.Is(err, citizen.ErrFiscalCode) {
				t.Errorf("%q: got %q, %v, want ErrFiscalCode", tt.in, f.Reveal(), err)
			}
		})
	}
}

func TestSamePersonIgnoresLettersForDigits(t *testing.T) {
	a, b, c := parse(t, "RSSMRA80A01Y100Z"), parse(t, "RSSMRA80A01Y10LC"), parse(t, "VRDNNA75E55Y200Q")
	if !a.SamePerson(b) {
		t.Error("the same person's two codes are told apart")
	}
	if a.SamePerson(c) || (citizen.FiscalCode{}).SamePerson(citizen.FiscalCode{}) {
		t.Error("two people are taken for one")
	}
}

func TestNothingPrints(t *testing.T) {
	proof := citizen.IdentityProof{
		FiscalCode: parse(t, "RSSMRA80A01Y100Z"), Name: citizen.NewName("Maria"), FamilyName: citizen.NewName("Rossi"),
	}
	hidden := struct{ p citizen.IdentityProof }{proof}
	var b strings.Builder
	for _, f := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		fmt.Fprintf(&b, f, proof)
		fmt.Fprintf(&b, f, &proof)
		fmt.Fprintf(&b, f, hidden)
	}
	slog.New(slog.NewJSONHandler(&b, nil)).Info("login", "proof", proof, "code", proof.FiscalCode, "name", proof.Name)
	if j, err := json.Marshal(proof); err == nil {
		b.Write(j)
	}
	for _, secret := range []string{"RSSMRA", "Maria", "Rossi", fmt.Sprintf("%x", "Maria")} {
		if strings.Contains(b.String(), secret) {
			t.Errorf("%q was printed: %s", secret, b.String())
		}
	}
}

func TestMasked(t *testing.T) {
	for in, want := range map[string]string{"Maria": "M***", "  Anna  Èva ": "A*** È***", "": ""} {
		if got := citizen.NewName(in).Masked(); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzParseFiscalCode(f *testing.F) {
	f.Add("RSSMRA80A01Y100Z")
	f.Add("01199250158")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := citizen.ParseFiscalCode(s)
		if err != nil {
			return
		}
		if again, err := citizen.ParseFiscalCode(c.Reveal()); err != nil || again != c {
			t.Errorf("%q does not read back", s)
		}
	})
}

func parse(t *testing.T, s string) citizen.FiscalCode {
	t.Helper()
	f, err := citizen.ParseFiscalCode(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return f
}
