package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sportello.example/kiosk"
)

func TestPrinterIsNamedAndChosen(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	toPreview(b, w)
	if strings.Contains(w.text(), "Si stampa con") {
		t.Error("the only printer is named")
	}
	two(b)
	w.open("/k/1/preview")
	w.says("Si stampa con: Ingresso")
	w.says("<b>Sala</b> studio") // as words
	if strings.Contains(w.body, `value="three"`) {
		t.Error("a printer that does not answer can be chosen")
	}
	w.press("printer", "two")
	w.on("/preview")
	w.says("Si stampa con: <b>Sala</b>")
	w.send("/k/1/preview", "printer", "nine") // retired meanwhile
	w.on("/preview")
	w.press("action", "print")
	b.await("the printer", func(v kiosk.View) bool { return v.Progress.State == kiosk.PrintPrinting })
	w.open("/k/1/printing")
	w.says("Si stampa con: <b>Sala</b>")
	b.job <- nil
	b.stage(kiosk.StageTake)
	w.open("/k/1/take")
	w.says("Sono nella stampante «<b>Sala</b>")
	if b.jobs[0].Printer != "two" {
		t.Errorf("sent to %q", b.jobs[0].Printer)
	}
}

// TestPrintsWhereThePageSaid changes which printer would print next between the page and the press.
func TestPrintsWhereThePageSaid(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	two(b)
	toPreview(b, w)
	w.says("Si stampa con: Ingresso")
	b.set(func() { b.printer, b.others[0] = b.others[0], b.printer })
	w.press("action", "print")
	b.await("the printer", func(v kiosk.View) bool { return v.Progress.State == kiosk.PrintPrinting })
	if b.jobs[0].Printer != "one" {
		t.Errorf("sent to %q", b.jobs[0].Printer)
	}
	b.job <- nil
	b.stage(kiosk.StageTake)
}

func TestAnotherPrinterIsOffered(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	two(b)
	toPrinting(b, w)
	b.job <- &kiosk.PrintError{Trouble: kiosk.TroubleIdentity, Outcome: kiosk.NothingPrinted, Err: errHub}
	b.stage(kiosk.StageProblem)
	w.open("/k/1/problem")
	w.says("Può usare un'altra stampante")
	if strings.Contains(w.body, `value="one"`) || strings.Contains(w.body, `value="three"`) {
		t.Error("a printer is offered that cannot print")
	}
	w.press("printer", "two")
	b.await("the printer", func(v kiosk.View) bool { return v.Progress.State == kiosk.PrintPrinting })
	b.job <- nil
	b.stage(kiosk.StageTake)
	if len(b.jobs) != 2 || b.jobs[1].Printer != "two" || b.jobs[1].Reprint != nil {
		t.Errorf("jobs %+v", b.jobs)
	}
}

// TestWaitingForStaff follows the page of somebody who waits while staff look at the tray.
func TestWaitingForStaff(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	toUncertain("a")(b, w)
	w.open("/k/1/problem")
	w.says("Il personale è stato avvisato")
	for body := range find(w.doc, "body") {
		if attr(body, "data-idle") != "0" || attr(body, "data-reload") != "1" {
			t.Error("the page asks whether anybody is there, or does not follow what happens")
		}
	}
	for _, form := range []string{"again", "back", "leave"} {
		if strings.Contains(w.body, `value="`+form+`"`) {
			t.Errorf("offers %q", form)
		}
	}
	next := stream(t, w, "problem")
	before := next()
	b.pass(5 * time.Minute)
	w.open("/k/1/problem")
	w.on("/problem")
	if err := b.desk.Settle(t.Context(), "a", kiosk.VerdictReprint); err != nil {
		t.Fatal(err)
	}
	for st := next(); st.Page != "/k/1/printing"; st = next() {
	}
	b.job <- &kiosk.PrintError{Trouble: kiosk.TroubleJam, Outcome: kiosk.Uncertain, Print: "b", Err: errHub}
	for st := next(); st.Page != "/k/1/problem"; st = next() {
	}
	if err := b.desk.Settle(t.Context(), "b", kiosk.VerdictNothing); err != nil {
		t.Fatal(err)
	}
	for st := next(); st.Mark == before.Mark; st = next() {
	}
	w.open("/k/1/problem")
	w.says("Il personale ha guardato")
	w.press("action", "back")
	w.on("/review")
}

func TestStaffPagesAreGuarded(t *testing.T) {
	b := newBranch(t)
	asked := 0
	h := b.web.Guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if err := r.ParseForm(); err != nil {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	}))
	for _, tt := range []struct {
		name, host, site, body string
		want, asked            int
	}{
		{"a form of its own page", "localhost", "same-origin", "a=b", 200, 1},
		{"a form of another site", "localhost", "cross-site", "a=b", 403, 0},
		{"a name that was pointed at the box", "evil.example", "same-origin", "a=b", 421, 0},
		{"a large form", "localhost", "same-origin", "a=" + strings.Repeat("b", maxBody), 413, 1},
	} {
		asked = 0
		r := httptest.NewRequest(http.MethodPost, "/staff/login", strings.NewReader(tt.body))
		r.Host = tt.host
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", tt.site)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if rec.Code != tt.want || asked != tt.asked || rec.Header().Get("Content-Security-Policy") != policy {
			t.Errorf("%s: %d, asked %d times, policy %q", tt.name, rec.Code, asked, rec.Header().Get("Content-Security-Policy"))
		}
	}
	w := b.browse()
	w.open("/k/1")
	if !strings.Contains(w.body, `href="/staff/?kiosk=1"`) {
		t.Error("no way to the staff's pages")
	}
}
