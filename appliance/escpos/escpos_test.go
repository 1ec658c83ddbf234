package escpos_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"sportello.example/appliance/escpos"
	"sportello.example/appliance/escpos/escpostest"
	"sportello.example/kiosk/paper"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func form(language string) paper.SlipForm {
	at := time.Date(2026, time.November, 22, 15, 7, 0, 0, time.UTC)
	return paper.SlipForm{
		Code: "K7M2PQ", Branch: "Città Studi – Sala “Lettura”", Left: at, Expires: at.AddDate(0, 0, 30), Language: language,
		Certificates: []string{"Certificato di residenza", "Certificato cumulativo di stato di famiglia, residenza e cittadinanza"},
	}
}

func slip(t *testing.T, language string) []byte {
	t.Helper()
	b, err := escpos.Slip(form(language))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// interpret returns what b makes on paper: one slip that is cut off.
func interpret(t *testing.T, b []byte) escpostest.Slip {
	t.Helper()
	var in escpostest.Interpreter
	in.Feed(b)
	slips := in.Slips()
	if len(slips) != 1 || len(in.Rest().Lines) > 0 {
		t.Fatalf("%d slips, and %+v", len(slips), in.Rest())
	}
	s := slips[0]
	if len(s.Unknown) > 0 || !s.Cut {
		t.Errorf("unknown commands %v, cut %v", s.Unknown, s.Cut)
	}
	for _, l := range s.Lines {
		if l.Columns() > 42 {
			t.Errorf("%d columns: %q", l.Columns(), l.Text)
		}
		if strings.ContainsRune(l.Text, '\ufffd') {
			t.Errorf("letters lost: %q", l.Text)
		}
	}
	if bytes.IndexByte(b, 0x10) >= 0 {
		t.Error("DLE in the stream: the printer looks for real-time commands behind it, wherever it is")
	}
	return s
}

func TestGolden(t *testing.T) {
	adoption, err := escpos.Adoption("0472", "Città Studi")
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"slip-it": slip(t, "it"), "slip-en": slip(t, "en"), "adoption": adoption} {
		var got bytes.Buffer
		for line := range bytes.SplitAfterSeq(b, []byte("\n")) {
			if picture := bytes.Index(line, []byte("\x1dv0")); picture >= 0 {
				fmt.Fprintf(&got, "%q and %d bytes more, SHA-256 %x\n", line[:picture+8], len(line)-picture-8, sha256.Sum256(line))
				continue
			}
			for _, c := range line {
				if c < ' ' || c > '~' || c == '\\' {
					fmt.Fprintf(&got, "\\x%02x", c)
				} else {
					got.WriteByte(c)
				}
			}
			got.WriteByte('\n')
		}
		file := filepath.Join("testdata", name+".txt")
		if *update {
			if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s is another; look at it with -update:\n%s", name, got.Bytes())
		}
	}
}

func TestSlipSaysWhatThePageSays(t *testing.T) {
	for _, language := range []string{"it", "en"} {
		f := form(language)
		s := interpret(t, slip(t, language))
		said := strings.Join(strings.Fields(s.Text()), " ")
		plain := strings.NewReplacer("–", "-", "“", `"`, "”", `"`, "’", "'")
		w, err := paper.WordsOfSlip(language)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{
			"Richiesta in attesa", "Codice di ritiro", "K7M 2PQ", "- Certificato di residenza", f.Certificates[1],
			"Sede: Città Studi - Sala \"Lettura\"", "Lasciata il 22 novembre 2026, ore 15:07", "Vale fino al 22 dicembre 2026, ore 15:07",
			w.Title, w.Left + " " + paper.Moment(f.Left, language), w.Expires + " " + paper.Moment(f.Expires, language), w.Note,
		}
		for i, step := range w.Steps {
			want = append(want, strconv.Itoa(i+1)+". "+step)
		}
		for _, text := range want {
			if !strings.Contains(said, plain.Replace(text)) {
				t.Errorf("%s: no %q in\n%s", language, text, s.Text())
			}
		}
		if strings.Contains(said, "?") {
			t.Errorf("%s: letters lost in\n%s", language, s.Text())
		}
		for _, l := range s.Lines {
			if l.Text == "K7M 2PQ" && (l.Width != 5 || l.Height != 5 || !l.Bold || l.Align != 1) {
				t.Errorf("the code is %+v", l)
			}
		}
	}
}

func TestSlipIsRefusedAsThePageIs(t *testing.T) {
	for name, change := range map[string]func(*paper.SlipForm){
		"no code":              func(f *paper.SlipForm) { f.Code = "" },
		"no date":              func(f *paper.SlipForm) { f.Left = time.Time{} },
		"another language":     func(f *paper.SlipForm) { f.Language = "xx" },
		"a command as a name":  func(f *paper.SlipForm) { f.Branch = "Sala\x1b@" },
		"a sign without shape": func(f *paper.SlipForm) { f.Certificates = []string{"😀"} },
	} {
		f := form("it")
		change(&f)
		_, err := escpos.Slip(f)
		var field *paper.FieldError
		if _, perr := paper.Slip(f); !errors.As(err, &field) || perr == nil {
			t.Errorf("%s: %v, and the page %v", name, err, perr)
		}
	}
}

func TestAdoptionShowsWhatThePrinterCanDo(t *testing.T) {
	b, err := escpos.Adoption("0472", "Città Studi")
	if err != nil {
		t.Fatal(err)
	}
	s := interpret(t, b)
	if text, err := s.QR(); err != nil || text != "SPORTELLO 0472" {
		t.Errorf("QR %q, %v", text, err)
	}
	big := false
	for _, l := range s.Lines {
		big = big || l.Text == "0472" && l.Width == 8 && l.Height == 8
	}
	if said := s.Text(); !big || !strings.Contains(said, "àèéìòù ÀÈÉÌÒÙ çñüößøå € « »") {
		t.Errorf("it says\n%s", said)
	}
	for _, code := range []string{"", "123", "12345", "12a4", "١٢"} {
		if _, err := escpos.Adoption(code, ""); err == nil {
			t.Errorf("adoption with code %q", code)
		}
	}
}

func TestLetters(t *testing.T) {
	for in, want := range map[string]string{
		"perché 5 €":                       "perch\x82 5 \xd5",
		"perche\u0301 e\u0300":             "perch\x82 \x8a",
		"l’età – “sì”…":                    `l'et\x85 - "s\x8d"...`,
		"Ștefan Țăran, Łódź, Šćžů":         "Stefan Taran, L\xa2dz, Sczu",
		"cœur, ẞ, ĳs, Ærø":                 "coeur, SS, ijs, \x92r\x9b",
		"Nguyễn Thị Ánh":                   "Nguy\x88n Thi \xb5nh",
		"Αθήνα, Київ":                      "Athina, Kiyiv",
		"a\x1b@b\x10\x04\x01\u202ec\u00ad": "a@bc",
		"a\u00a0b\tc":                      "a b c",
		"人":                                "?",
	} {
		want = strings.NewReplacer(`\x85`, "\x85", `\x8d`, "\x8d").Replace(want)
		if got := escpos.Encode(in); string(got) != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	// What the page prints of Latin letters, the slip prints.
	for r := rune(' '); r < 0x2000; r++ {
		if !paper.Printable(string(r)) || r == '?' || !unicode.In(r, unicode.Latin) {
			continue
		}
		if b := escpos.Encode(string(r)); len(b) == 0 || bytes.IndexByte(b, '?') >= 0 {
			t.Errorf("%q (%U) is written %q", r, r, b)
		}
	}
}

func FuzzEncode(f *testing.F) {
	f.Add("Città Studi – Sala “Lettura” Ștefan 5 €")
	f.Add("e\u0301\x1b@\x10\x04\x01\xff人")
	f.Fuzz(func(t *testing.T, s string) {
		b := escpos.Encode(s)
		for _, c := range b {
			if c < ' ' || c == 0x7f {
				t.Fatalf("%q makes the command %#x", s, c)
			}
		}
		// What a printer shows of it is written the same again: nothing of the code page is lost.
		var in escpostest.Interpreter
		in.Feed([]byte("\x1bt\x13"))
		in.Feed(append(bytes.Clone(b), '\n'))
		shown := in.Rest().Lines[0].Text
		if again := escpos.Encode(strings.ReplaceAll(shown, "\u00a0", " ")); string(again) != string(b) && !strings.ContainsRune(shown, '\u00ad') {
			t.Errorf("%q is shown %q, and that is written %q, not %q", s, shown, again, b)
		}
		for _, width := range []int{1, 5, 42} {
			for _, line := range escpos.Wrap(s, width) {
				if len(line) == 0 || len(line) > width {
					t.Errorf("line %q of %q in %d columns", line, s, width)
				}
			}
		}
	})
}

func FuzzInterpreter(f *testing.F) {
	b, err := escpos.Slip(form("it"))
	if err != nil {
		f.Fatal(err)
	}
	a, err := escpos.Adoption("0472", "")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(a)
	f.Add([]byte("\x1dv0\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var in, split escpostest.Interpreter
		in.Feed(b)
		for rest := b; len(rest) > 0; {
			n := escpostest.Next(rest)
			if n == 0 {
				break
			}
			if n > len(rest) {
				t.Fatalf("%d bytes of %d", n, len(rest))
			}
			split.Feed(rest[:n])
			rest = rest[n:]
		}
		if len(in.Slips()) != len(split.Slips()) || in.Rest().Text() != split.Rest().Text() {
			t.Errorf("fed at once %d slips, piece by piece %d", len(in.Slips()), len(split.Slips()))
		}
	})
}
