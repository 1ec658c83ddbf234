package staff

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sportello.example/kiosk"
	"sportello.example/kiosk/locale"
)

const uuid = "0b5c3a44-7d0e-4c7a-9f67-1d2e3f405162"

func TestOnlyWithTheCode(t *testing.T) {
	w := open(t)
	for _, path := range []string{home, prints, adopt, candidate + "?id=x", retire + "?uuid=x"} {
		w.get(path)
		w.at(login)
	}
	for _, path := range []string{printers, prints, adopt, candidate, code, alarms, retire} {
		w.post(path, "uuid", uuid, "id", "a", "verdict", "out", "action", "free")
		w.at(login)
	}
	if did := w.b.log(); did != "" {
		t.Errorf("done for nobody: %s", did)
	}
	w.post(login, "code", "0000 0000", "by", "M. Rossi", "lang", "en")
	if w.status != http.StatusUnprocessableEntity {
		t.Errorf("a wrong code: %d", w.status)
	}
	w.shows("M. Rossi") // what was typed is not lost, the code is
	for _, tt := range []error{ErrLocked, ErrNoCode} {
		w.b.set(func() { w.b.door = tt })
		w.post(login, "code", rightCode, "by", "M. Rossi")
		w.at(login)
		w.get(home)
		w.at(login)
	}
	w.b.set(func() { w.b.door = nil })
	w.post(login, "code", rightCode, "by", "  ")
	w.get(home)
	w.at(login) // somebody has no name

	w.enter("it")
	w.b.set(func() { w.b.clock = w.b.clock.Add(stayIdle) })
	w.get(home)
	w.at(login) // nobody has touched it for half an hour
	w.enter("it")
	w.post(logout)
	w.get(home)
	w.at(login)
}

// full is a branch where everything is wrong at once.
func full(b *branch) {
	key := strings.Repeat("ab", 32)
	b.adopted = []Adopted{
		{UUID: uuid, Name: hostile, URI: "ipps://192.0.2.7/ipp/print", Keys: []string{key}, Link: LinkTLS, PDF: true, By: "Anna", At: b.clock},
		{UUID: "r", Name: "Vecchia", URI: "ipp://192.0.2.8/", Link: LinkRisk, Risk: &Risk{By: "Anna", Why: "no TLS", At: b.clock, Until: b.clock.AddDate(0, 3, 0)}, PDF: true},
		{UUID: "s", Name: "Scontrini", URI: "socket://192.0.2.9:9100", Receipt: true},
		{UUID: "i", Name: "Immagini", URI: "ipps://192.0.2.10/", Keys: []string{key}, Link: LinkTLS, Raster: true},
	}
	b.devices = []Device{
		{
			UUID: uuid, Name: hostile, URI: "ipps://192.0.2.7/ipp/print", Presence: Online, State: kiosk.PrinterAttention, Trouble: kiosk.TroubleJam,
			Reasons: []Reason{{"media-jam", "error"}, {"com.example-strange", "error"}, {"toner-low", "report"}}, Message: hostile,
			Trays:    []Tray{{Name: hostile, Media: "na_letter_8.5x11in", Level: 0, Max: 250}, {Name: "2", Level: -1, Max: -1}},
			Supplies: []Supply{{Name: hostile, Kind: "toner", Level: 3}, {Name: "x", Level: -1}},
			Queue:    []Job{{ID: "0b5c3a44", Kiosk: 2, Kind: "certificate", State: "printing", Since: b.clock.Add(-time.Minute)}},
			Others:   3, PagesToday: 41, Format: "application/pdf", Blocked: "0b5c3a44-blocked", Since: b.clock.Add(-time.Hour),
		},
		{UUID: "r", Name: "Vecchia", Presence: WrongIdentity, State: kiosk.PrinterAttention, Trouble: kiosk.TroubleIdentity, Fault: key, Since: b.clock},
		{UUID: "s", Name: "Scontrini", Presence: Unreachable, State: kiosk.PrinterOffline, Trouble: kiosk.TroubleUnreachable, Since: b.clock},
	}
	b.candidates = []Candidate{
		{ID: "a", UUID: "a", Name: hostile, Make: hostile, URI: "ipps://192.0.2.7/", Source: "dnssd", TLS: true, Keys: []string{key}, Known: true, OldKeys: []string{strings.Repeat("cd", 32)}},
		{ID: "p", UUID: "p", Name: "Aperta", URI: "ipp://192.0.2.8/", Source: "manual", Refused: "plain"},
	}
	for _, why := range []string{"no_a4", "no_format", "raw", "unreachable", "auth", "no_uuid", "duplicate", "news"} {
		b.candidates = append(b.candidates, Candidate{ID: why, Name: why, URI: "ipps://192.0.2.9/", Source: "usb", Refused: why})
	}
	b.candidates[0], b.candidates[len(b.candidates)-1] = b.candidates[len(b.candidates)-1], b.candidates[0]
	b.undecided = []Print{{
		ID: "7f2c9a11-0000", Kiosk: 1, Kind: "certificate", Printer: uuid, Name: hostile, Pages: 2, At: b.clock, Bytes: 5000, Sent: 1000,
		JobState: "processing-stopped", Sheets: 1, Restarted: true, Why: hostile, Number: 1,
	}, {ID: "8a", Kind: "slip", Name: "x", Sheets: -1, At: b.clock}}
}

func TestEveryPageInEveryLanguage(t *testing.T) {
	texts, err := locale.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range texts.Languages() {
		w := open(t)
		w.b.set(func() { full(w.b) })
		for _, kind := range []AlarmKind{AlarmKey, AlarmIdentity, AlarmDuplicate, AlarmSheet, AlarmUncertain, AlarmRisk, AlarmName} {
			w.alarms.Raise(Alarm{Kind: kind, Subject: uuid, Name: hostile, Old: strings.Repeat("ab", 32), New: "2027-02-25", At: w.b.now()})
		}
		w.enter(l.Tag)
		for _, path := range []string{home, prints, adopt, candidate + "?id=a", candidate + "?id=p", candidate + "?id=raw", retire + "?uuid=" + uuid, "/staff/nothing", login} {
			w.get(path)
			if strings.Contains(w.text, hostileRaw) || strings.Contains(w.text, `" onload="x`) {
				t.Errorf("%s %s: a printer's name is taken for HTML", l.Tag, path)
			}
			if !strings.Contains(w.text, `lang="`+l.Tag+`"`) && path != login {
				t.Errorf("%s %s: in another language", l.Tag, path)
			}
		}
		w.get(adopt)
		if changed, other := strings.Index(w.text, "id=a"), strings.Index(w.text, "id=p"); changed < 0 || changed > other {
			t.Errorf("%s: the printer with another key is not the first", l.Tag)
		}
		w.get(home)
		if n, m := strings.Count(w.text, `value="picture"`), strings.Count(w.text, `value="document"`); n != 2 || m != 0 {
			t.Errorf("%s: %d printers may get pictures and %d documents, want 2 and none: one draws none right by itself", l.Tag, n, m)
		}
		w.shows("media-jam", "com.example-strange", "0b5c3a", "41", "class=\"risk\"", "25 "+l.Months[1]+" 2027")
		w.get(prints)
		w.shows(`class="badge">2<`, "7f2c9a", "1000", "5000", "processing-stopped")
	}
}

// TestEveryTextIsThere reads which texts templates and program name, and finds those that no language has, or nobody names.
func TestEveryTextIsThere(t *testing.T) {
	texts, err := locale.Load()
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, pattern := range []string{"*.go", "templates/*.html"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(b)
		}
	}
	source := all.String()
	named := map[string]bool{}
	var begun []string // that the program ends
	for _, m := range regexp.MustCompile(`"(staff\.[a-z0-9_.-]+)"`).FindAllStringSubmatch(source, -1) {
		if named[m[1]] = true; strings.HasSuffix(m[1], ".") {
			begun = append(begun, m[1])
		}
	}
	if len(named) < 80 {
		t.Fatalf("only %d texts are named", len(named))
	}
	for _, l := range texts.Languages() {
		for key := range named {
			if !strings.HasSuffix(key, ".") && !regexp.MustCompile(`\.(js|css)$`).MatchString(key) && !l.Has(key) && !l.Has(key+".other") {
				t.Errorf("%s: no text %s", l.Tag, key)
			}
		}
		for key := range l.Texts {
			if !strings.HasPrefix(key, "staff.") || named[key] || named[strings.TrimSuffix(strings.TrimSuffix(key, ".one"), ".other")] {
				continue
			}
			known := false
			for _, b := range begun {
				known = known || strings.HasPrefix(key, b)
			}
			if !known && !regexp.MustCompile(`^staff\.[a-z]+\.title$`).MatchString(key) {
				t.Errorf("%s: nobody names %s", l.Tag, key)
			}
		}
	}
}

func TestDecide(t *testing.T) {
	for _, tt := range []struct {
		verdict kiosk.Verdict
		waiting bool
		err     error
		want    string
		at      string
	}{
		{kiosk.VerdictOut, true, nil, "decide 7f2c9a11-0000 out M. Rossi, settle 7f2c9a11-0000 out", prints},
		{kiosk.VerdictNothing, false, nil, "decide 7f2c9a11-0000 nothing M. Rossi, settle 7f2c9a11-0000 nothing", prints},
		{kiosk.VerdictReprint, true, nil, "decide 7f2c9a11-0000 reprint M. Rossi, settle 7f2c9a11-0000 reprint", prints},
		{kiosk.VerdictReprint, false, nil, "", prints}, // the visitor has gone: nothing is even stored
		{kiosk.VerdictOut, true, ErrGone, "decide 7f2c9a11-0000 out M. Rossi", prints},
		{kiosk.VerdictReprint, true, &kiosk.PrintError{Trouble: kiosk.TroubleBlocked}, "decide 7f2c9a11-0000 reprint M. Rossi", home},
	} {
		w := open(t)
		w.b.set(func() { full(w.b); w.b.waiting, w.b.decide = tt.waiting, tt.err })
		w.alarms.Raise(Alarm{Kind: AlarmUncertain, Subject: uuid})
		w.enter("it")
		w.get(prints)
		if got := strings.Contains(w.text, `value="reprint"`); got != tt.waiting {
			t.Errorf("%s, waiting %v: a reprint is offered: %v", tt.verdict, tt.waiting, got)
		}
		w.post(prints, "id", "7f2c9a11-0000", "verdict", string(tt.verdict))
		w.at(tt.at)
		if got := w.b.log(); got != tt.want {
			t.Errorf("%s, waiting %v, %v: %s, want %s", tt.verdict, tt.waiting, tt.err, got, tt.want)
		}
		if settled := len(w.alarms.List()) == 0; settled != strings.Contains(tt.want, "settle") {
			t.Errorf("%s, waiting %v, %v: alarm cleared: %v", tt.verdict, tt.waiting, tt.err, settled)
		}
	}
	w := open(t)
	w.enter("it")
	w.post(prints, "id", "x", "verdict", "burn")
	if w.status != http.StatusBadRequest || w.b.log() != "" {
		t.Errorf("no such verdict: %d, %s", w.status, w.b.log())
	}
}

func TestAdopt(t *testing.T) {
	w := open(t)
	w.enter("it")
	w.post(adopt, "uri", "ftp://x")
	if w.status != http.StatusUnprocessableEntity {
		t.Errorf("not an address: %d", w.status)
	}
	w.shows("ftp://x")
	w.post(adopt, "uri", " ipps://192.0.2.7/ipp/print ")
	w.at(candidate)
	w.post(candidate, "id", "typed", "as", "document")
	w.eventually(candidate+"?id=typed", `name="code"`)
	w.post(code, "id", "typed", "code", "0000", "look", "right")
	w.shows("2") // tries
	w.post(code, "id", "typed", "code", paperCode)
	if w.status != http.StatusUnprocessableEntity {
		t.Errorf("nobody said how the page looks: %d", w.status)
	}
	w.post(code, "id", "typed", "code", paperCode, "look", "wrong")
	w.shows(`value="picture"`)
	w.b.set(func() { w.b.confirm = fmt.Errorf("adopt: %w", ErrGone) })
	w.post(code, "id", "typed", "code", paperCode, "look", "right")
	w.shows("ora non risponde")
	w.b.set(func() { w.b.confirm = nil })
	w.post(code, "id", "typed", "code", paperCode, "look", "right")
	w.at(home)
	if got, want := w.b.log(), "begin typed pdf M. Rossi, confirm typed 0000 M. Rossi, confirm typed 4071 M. Rossi, confirm typed 4071 M. Rossi"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestAdoptAtARisk(t *testing.T) {
	w := open(t)
	w.b.set(func() { full(w.b) })
	w.enter("it")
	for _, until := range []string{"", "2026-11-24", "2027-11-27", "soon"} {
		w.post(candidate, "id", "p", "as", "picture", "why", "si cambia in primavera", "until", until)
		if w.status != http.StatusUnprocessableEntity {
			t.Errorf("until %q: %d", until, w.status)
		}
	}
	w.post(candidate, "id", "p", "as", "picture", "why", " ", "until", "2027-04-30")
	if w.status != http.StatusUnprocessableEntity || w.b.log() != "" {
		t.Errorf("without a reason: %d, %s", w.status, w.b.log())
	}
	w.post(candidate, "id", "p", "as", "picture", "why", "si cambia in primavera", "until", "2027-04-30")
	w.eventually(candidate+"?id=p", `name="code"`)
	if got, want := w.b.log(), "begin p picture at the risk of M. Rossi because si cambia in primavera M. Rossi"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestButtons(t *testing.T) {
	w := open(t)
	w.b.set(func() { full(w.b) })
	w.alarms.Raise(Alarm{Kind: AlarmSheet, Subject: uuid})
	w.enter("it")
	w.post(printers, "uuid", uuid, "action", "free")
	w.shows("riceve di nuovo")
	if len(w.alarms.List()) != 0 {
		t.Error("somebody has looked, and the alarm stays")
	}
	w.b.set(func() { w.b.free = fmt.Errorf("free: %w", ErrGone) })
	w.post(printers, "uuid", uuid, "action", "free") // somebody was faster
	w.at(home)
	w.shows("già a posto")
	w.post(printers, "uuid", uuid, "action", "picture")
	w.post(printers, "uuid", uuid, "action", "document")
	w.get(retire + "?uuid=" + uuid)
	w.post(retire, "uuid", uuid)
	w.shows("Prima guardi nel vassoio")
	w.b.set(func() { w.b.devices[0].Blocked = "" })
	w.post(retire, "uuid", uuid)
	w.post(printers, "uuid", uuid, "action", "explode")
	if w.status != http.StatusBadRequest {
		t.Errorf("no such button: %d", w.status)
	}
	if got, want := w.b.log(), "free X M. Rossi, free X M. Rossi, raster X on, raster X off, retire X M. Rossi"; got != strings.ReplaceAll(want, "X", uuid) {
		t.Errorf("%s, want %s", got, want)
	}
	w.post(printers, "uuid", uuid, "action", "test")
	for end := time.Now().Add(20 * time.Second); !strings.HasSuffix(w.b.log(), "test "+uuid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no test page: %s", w.b.log())
		}
	}
}

// TestAnotherKeyIsNotCalledProtected looks at a printer that answers with another key than the one it was adopted with.
func TestAnotherKeyIsNotCalledProtected(t *testing.T) {
	w := open(t)
	w.b.set(func() {
		w.b.adopted = []Adopted{{UUID: uuid, Name: "Laser", URI: "ipps://192.0.2.7/ipp/print", Keys: []string{strings.Repeat("ab", 32)}, Link: LinkTLS}}
		w.b.devices = []Device{{UUID: uuid, Name: "Laser", Presence: Online, State: kiosk.PrinterReady}}
	})
	w.enter("it")
	w.get(home)
	w.shows("Protetto: conosciamo la sua chiave")
	w.b.set(func() {
		w.b.devices[0].Presence, w.b.devices[0].Fault = WrongIdentity, strings.Repeat("cd", 32)
	})
	w.get(home)
	w.shows("una chiave che non conosciamo")
	if strings.Contains(w.text, "Protetto") {
		t.Error("a printer with another key is called protected")
	}
}
