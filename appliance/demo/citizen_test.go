package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"testing"
	"time"
)

// sheets is how many sheets lie in the tray.
func sheets(t *testing.T, s *stage) int {
	t.Helper()
	all, err := s.printerKnobs.Sheets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// toPreview goes from the QR to the preview of a certificate.
func (k *kioskScreen) toPreview(s *stage, who person) {
	k.t.Helper()
	k.identify(s, who)
	k.choose("action", "yes")
	k.at("/review")
	k.press("button.primary")
	k.at("/preview")
}

// identify goes from the QR to "is that you?".
func (k *kioskScreen) identify(s *stage, who person) {
	k.t.Helper()
	k.enter(k.phone(s, k.readQR(), who))
	k.at("/identity")
	k.within(15*time.Second, "the question whether that is them", `document.querySelector('button[value=yes]') !== null`)
	k.at("/identity")
}

// takeAll goes from "take your sheets" to the attract page.
func (k *kioskScreen) takeAll() {
	k.t.Helper()
	k.at("/take")
	k.choose("action", "all")
	k.at("/goodbye")
	k.within(20*time.Second, "the attract page", `location.pathname.endsWith('/k/1')`)
}

// onPaper checks that exactly one certificate has come out since before, byte for byte what the registry issued last.
func onPaper(t *testing.T, s *stage, before int) {
	t.Helper()
	all, err := s.printerKnobs.Sheets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != before+1 {
		t.Fatalf("%d sheets came out, want 1", len(all)-before)
	}
	issued, err := s.registryKnob.Issued(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pdf, err := s.printerKnobs.PDF(t.Context(), len(all))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hashOf(pdf), issued[len(issued)-1].SHA256; got != want {
		t.Errorf("paper %s, issued %s", got, want)
	}
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// TestKiosk plays a citizen at a real browser, with the line up, cut before, and cut in the middle.
func TestKiosk(t *testing.T) {
	t.Parallel()
	s := town(t)
	browser, profile, closeBrowser := chromium(t)
	ada := citizen1(t, func(p person) bool { return p.Note == "" })
	mended := func(t *testing.T) {
		t.Helper()
		turn(t, s, "line", "up")
		lineIs(t, s, "up")
	}

	t.Run("line up", func(t *testing.T) {
		before := sheets(t, s)
		k := openKiosk(t, browser, s, "up")
		k.toLogin()
		k.toPreview(s, ada)
		k.choose("action", "print")
		k.at("/printing")
		k.takeAll()
		onPaper(t, s, before)
		k.done()
	})

	t.Run("line cut before", func(t *testing.T) {
		turn(t, s, "line", "cut")
		lineIs(t, s, "down")
		before := sheets(t, s)
		k := openKiosk(t, browser, s, "cut-before")
		k.toStamp()
		k.choose("choice", "due")
		k.at("/request")
		k.press("button.primary")
		k.at("/preview")
		k.choose("action", "print")
		k.takeAll()
		if n := sheets(t, s) - before; n != 1 {
			t.Errorf("%d slips came out, want 1", n)
		}
		declare(k)
		k.choose("action", "print")
		k.takeAll()
		k.done()
		mended(t)
		eventually(t, 20*time.Second, "the empty queue", func() bool { return s.State(t.Context()).Box.Queue == 0 })
	})

	t.Run("line cut after the QR is shown", func(t *testing.T) {
		before := sheets(t, s)
		k := openKiosk(t, browser, s, "cut-after-qr")
		k.toLogin()
		qr := k.readQR()
		turn(t, s, "line", "cut")
		lineIs(t, s, "down")
		k.enter(k.phone(s, qr, ada)) // the phone has a line of its own; the box checks the code alone
		k.at("/identity")
		k.says(20*time.Second, "collegamento")
		k.at("/identity")
		mended(t)
		k.within(20*time.Second, "the identity, once the line is back", `document.querySelector('button[value=yes]') !== null`)
		k.choose("action", "yes")
		k.at("/review")
		k.press("button.primary")
		k.at("/preview")
		k.choose("action", "print")
		k.takeAll()
		onPaper(t, s, before)
		k.done()
	})

	t.Run("line cut after the code is typed", func(t *testing.T) {
		before := sheets(t, s)
		k := openKiosk(t, browser, s, "cut-after-code")
		k.toLogin()
		k.identify(s, ada)
		turn(t, s, "line", "cut")
		lineIs(t, s, "down")
		k.choose("action", "yes")
		k.at("/review")
		k.press("button.primary")
		k.at("/problem")
		k.says(time.Second, "Il collegamento si è interrotto")
		mended(t)
		k.choose("action", "again")
		k.at("/preview")
		k.choose("action", "print")
		k.takeAll()
		onPaper(t, s, before)
		k.done()
	})

	t.Run("line cut while preparing", func(t *testing.T) {
		before := sheets(t, s)
		hang(t, s, 10*time.Second)
		k := openKiosk(t, browser, s, "cut-preparing")
		k.toLogin()
		k.identify(s, ada)
		k.choose("action", "yes")
		k.at("/review")
		k.press("button.primary")
		k.at("/preparing")
		turn(t, s, "line", "cut")
		k.at("/problem")
		k.choose("action", "leave") // nothing of what was chosen is lost
		k.at("/preview")
		k.choose("action", "print")
		k.takeAll()
		if n := sheets(t, s) - before; n != 1 {
			t.Errorf("%d sheets came out, want the slip alone", n)
		}
		k.done()
		hang(t, s, 0)
		mended(t)
	})

	t.Run("line cut while printing", func(t *testing.T) {
		before := sheets(t, s)
		k := openKiosk(t, browser, s, "cut-printing")
		k.toLogin()
		k.toPreview(s, ada)
		turn(t, s, "printer", "paper")
		k.choose("action", "print")
		k.at("/printing")
		k.says(5*time.Second, "carta")
		turn(t, s, "line", "cut")
		lineIs(t, s, "down")
		k.at("/printing")
		turn(t, s, "printer", "ready")
		k.takeAll()
		onPaper(t, s, before)
		k.done()
		mended(t)
	})

	t.Run("printer troubles are said within five seconds", func(t *testing.T) {
		before := sheets(t, s)
		k := openKiosk(t, browser, s, "printer")
		declare(k)
		turn(t, s, "printer", "jam")
		k.choose("action", "print")
		k.says(5*time.Second, "bloccat")
		k.at("/printing")
		turn(t, s, "printer", "gone")
		k.says(7*time.Second, "non risponde")
		k.at("/printing")
		k.choose("action", "cancel")
		k.at("/problem")
		if n := sheets(t, s) - before; n != 0 {
			t.Errorf("%d sheets came out of a jammed printer", n)
		}
		turn(t, s, "printer", "ready")
		k.open("/exit")
		k.at("/exit")
		k.press("form[action$='/exit'] button.primary, form[action$='/exit'] button")
		k.within(20*time.Second, "the attract page", `location.pathname.endsWith('/k/1')`)
		k.done()
	})

	t.Run("larger text, contrast, English, small screens", func(t *testing.T) {
		k := openKiosk(t, browser, s, "look")
		k.open("/language")
		k.choose("language", "en")
		k.at("/need")
		for range 2 {
			k.press(`form[data-look=size] button`)
		}
		k.press(`form[data-look=contrast] button`)
		k.at("/need")
		k.choose("choice", "certificate")
		k.at("/recipient")
		k.choose("choice", "public")
		k.at("/advice")
		k.open("/exit")
		k.press("form[action$='/exit'] button.primary, form[action$='/exit'] button")
		k.done()
	})

	closeBrowser()
	nothingStays(t, s, profile, ada)
}

// nothingStays searches everything that box, hub and browser have written for the citizen and for what was typed.
func nothingStays(t *testing.T, s *stage, profile string, who person) {
	t.Helper()
	needles := []needle{
		newNeedle("the citizen's fiscal code", who.FiscalCode), newNeedle("the citizen's name", who.Name),
		newNeedle("the typed name", "Zefirina"), newNeedle("the typed family name", "Canarinissima"), newNeedle("the typed street", "Zefirelli"),
	}
	for dir, least := range map[string]int{s.dir: 10, profile: 10} {
		files, found, err := searchTree(t.Context(), dir, append(needles, documents[0]), everything)
		if err != nil {
			t.Fatal(err)
		}
		if files < least {
			t.Errorf("only %d files were searched in %s", files, dir)
		}
		for _, r := range found {
			t.Errorf("left behind: %s", r)
		}
	}
}

// declare fills in a self-declaration, from the attract page to the preview.
func declare(k *kioskScreen) {
	k.t.Helper()
	k.open("/language")
	k.choose("language", "it")
	k.at("/need")
	k.choose("choice", "declaration")
	k.at("/facts")
	for _, fact := range []string{"residence", "family", "civil"} {
		k.press(fmt.Sprintf(`label:has(input[value=%s])`, fact))
	}
	k.press("button.primary")
	k.at("/fill")
	k.choose("choice", "typed")
	for _, page := range []struct {
		name   string
		fields map[string]string
	}{
		{"person", map[string]string{"name": "Zefirina", "family_name": "Canarinissima"}},
		{"birth", map[string]string{"birth_place": "Milano", "birth_province": "MI", "birth_date": "10/12/1985"}},
		{"address", map[string]string{"street": "Via Zefirelli", "number": "7", "place": "Milano", "province": "MI"}},
		{"since", map[string]string{"since": "01/02/2003"}},
	} {
		k.at("/" + page.name)
		for name, value := range page.fields {
			k.typeIn(name, value)
		}
		k.press("button.primary")
	}
	k.at("/civil")
	k.press(`label:has(input[value=free])`)
	k.press("button.primary")
	k.at("/relatives")
	k.press("button.primary")
	k.at("/review")
	k.says(time.Second, "Canarinissima")
	k.press("button.primary")
	k.at("/preview")
}

// hang makes the registry think for so long before each answer.
func hang(t *testing.T, s *stage, d time.Duration) {
	t.Helper()
	if err := s.registryKnob.post(context.WithoutCancel(t.Context()), "/hang", url.Values{"for": {d.String()}}); err != nil {
		t.Fatal(err)
	}
}

// misbehave turns one of the registry's knobs until the test ends.
func misbehave(t *testing.T, s *stage, knob string) {
	t.Helper()
	set := func(on string) {
		if err := s.registryKnob.post(context.WithoutCancel(t.Context()), "/"+knob, url.Values{"on": {on}}); err != nil {
			t.Error(err)
		}
	}
	set("true")
	t.Cleanup(func() { set("false") })
}

// goHome ends whatever session a visitor is in.
func goHome(t testing.TB, v *visitor) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	if err := v.open(ctx, v.base+"/exit"); err != nil {
		t.Fatal(err)
	}
	if v.at("/k/1") {
		return // nobody's session is open
	}
	if err := v.submit(ctx, answers{"reason": "asked"}); err != nil {
		t.Fatal(err)
	}
}
