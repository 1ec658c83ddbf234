package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sportello.example/kiosk"
)

// TestPrinterWithAnotherKey is the day after the printer's program was updated: nothing goes to it, the citizen keeps the
// document, and staff adopt it again by the code on its paper.
func TestPrinterWithAnotherKey(t *testing.T) {
	t.Parallel()
	s := town(t)
	browser, _, _ := chromium(t)
	before := sheets(t, s)
	k := openKiosk(t, browser, s, "key")
	declare(k)
	turn(t, s, "printer", "key")
	eventually(t, 30*time.Second, "the box to see another key", func() bool {
		return s.State(t.Context()).Box.Printer.Trouble == kiosk.TroubleIdentity
	})
	k.choose("action", "print")
	k.at("/problem")
	k.shoot("another-key")
	if n := sheets(t, s) - before; n != 0 {
		t.Fatalf("%d sheets came out of a printer with another key", n)
	}

	office := openKiosk(t, browser, s, "staff")
	office.base = "http://" + s.addr.kiosk + "/staff"
	office.open("/")
	office.at("/staff/login")
	office.shoot("login")
	office.typeIn("code", "00000000")
	office.typeIn("by", "M. Rossi")
	office.press("main form button")
	office.at("/staff/login")
	office.shoot("wrong-code")
	office.typeIn("code", s.staffCode)
	office.typeIn("by", "M. Rossi")
	office.press("main form button")
	office.at("/staff/")
	office.shoot("printers")
	office.says(time.Second, "chiave")

	office.open("/adopt")
	office.shoot("candidates")
	own := "Stampante demo " + s.printerUUID[:4] // another demonstration on this machine has a printer too
	office.within(20*time.Second, own, fmt.Sprintf(`(() => {
		const box = [...document.querySelectorAll('section.device')].find(e => e.innerText.includes(%q));
		const link = box && box.querySelector("a[href*='/staff/candidate']");
		if (link) link.id = 'own';
		return !!link;
	})()`, own))
	office.press("#own")
	office.shoot("candidate")
	office.press("main form button.primary")
	office.within(60*time.Second, "the page to be printed", `document.querySelector('input[name=code]') !== null`)
	code := codeOnPaper(t, s)
	office.shoot("code")
	office.typeIn("code", code)
	office.press("label:has(input[value=right])")
	office.press("main form button.primary")
	office.at("/staff/")
	office.shoot("adopted")
	office.done("422") // the wrong code

	k.choose("action", "again")
	k.at("/preview")
	k.choose("action", "print")
	k.takeAll()
	if n := sheets(t, s) - before; n != 2 {
		t.Errorf("%d sheets came out, want the adoption page and the declaration", n)
	}
	k.done()
}

var fourDigits = regexp.MustCompile(`(?m)^\s*(\d) ?(\d) ?(\d) ?(\d)\s*$`)

// codeOnPaper reads the code off the newest sheet, as a person would.
func codeOnPaper(t *testing.T, s *stage) string {
	t.Helper()
	out, err := s.printerKnobs.Sheets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pdf, err := s.printerKnobs.PDF(t.Context(), len(out))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "page.pdf")
	if err := os.WriteFile(file, pdf, 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := exec.CommandContext(t.Context(), "pdftotext", "-layout", file, "-").CombinedOutput()
	if err != nil {
		t.Fatalf("pdftotext: %v: %s", err, text)
	}
	m := fourDigits.FindStringSubmatch(string(text))
	if m == nil {
		t.Fatalf("no code on the page:\n%s", text)
	}
	return strings.Join(m[1:], "")
}
