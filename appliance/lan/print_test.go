package lan_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"
	"time"

	"sportello.example/appliance/ipp"
	"sportello.example/appliance/lan/lantest"
	"sportello.example/appliance/pwgraster"
	"sportello.example/appliance/raster"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// TestPrint prints on printers of many kinds, and on printers that need a hand.
func TestPrint(t *testing.T) {
	t.Parallel()
	l := lantest.New(t)
	printers := l.Printers(t,
		lantest.Config{Host: "pdf", N: 11, Name: "Solo PDF"},
		lantest.Config{Host: "pwg", N: 12, Name: "Solo PWG", Formats: raster.PWG},
		lantest.Config{Host: "urf", N: 13, Name: "Solo URF", Formats: raster.URF},
		lantest.Config{Host: "letter", N: 14, Name: "Carta americana", Letter: true},
		lantest.Config{Host: "paper", N: 15, Name: "Senza carta"},
		lantest.Config{Host: "toner", N: 16, Name: "Senza toner"},
		lantest.Config{Host: "busy", N: 17, Name: "Occupata"},
		lantest.Config{Host: "auth", N: 18, Name: "Chiede la password", Auth: true},
		lantest.Config{Host: "keys", N: 19, Name: "Nuove chiavi"},
		lantest.Config{Host: "fails", N: 20, Name: "Rinuncia"},
		lantest.Config{Host: "leaves", N: 21, Name: "Resta dentro"},
	)
	by := map[string]*lantest.Printer{}
	for _, p := range printers {
		by[p.Name()] = p
	}
	b := newBox(t, l, setup{}, adoptAll(t, printers...)...)
	t.Cleanup(func() {
		if t.Failed() {
			for _, d := range b.Devices() {
				t.Logf("%+v", d)
			}
		}
	})

	t.Run("PDF goes as it is", func(t *testing.T) {
		t.Parallel()
		p := by["pdf"]
		b.online(t, p)
		doc := document(t, p.Instance())
		if err := b.print(t.Context(), p, doc, nil); err != nil {
			t.Fatal(err)
		}
		received(t, p, doc)
		told := p.Told(t)
		// Whatever is in the trays, and whatever the printer would take by itself.
		if c := told["IPP_MEDIA_COL"]; !strings.Contains(c, "x-dimension=21000") || !strings.Contains(c, "y-dimension=29700") {
			t.Errorf("media-col=%q", c)
		}
		for k, want := range map[string]string{"CONTENT_TYPE": ipp.PDF, "IPP_SIDES": "one-sided"} {
			if got, ok := told[k]; ok && got != want {
				t.Errorf("%s=%q, want %q", k, got, want)
			}
		}
	})
	for name, format := range map[string]string{"pwg": raster.PWG, "urf": raster.URF} {
		t.Run(format+" is drawn", func(t *testing.T) {
			t.Parallel()
			p := by[name]
			b.online(t, p)
			doc := document(t, p.Instance())
			if err := b.print(t.Context(), p, doc, nil); err != nil {
				t.Fatal(err)
			}
			drawnAs(t, b.draw, p, doc, format)
		})
	}
	t.Run("US Letter in the trays", func(t *testing.T) {
		t.Parallel()
		p := by["letter"]
		until(t, "no A4", 60*time.Second, func() bool { return b.device(p).Trouble == kiosk.TroubleMedia })
		doc := document(t, p.Instance())
		var s said
		s.on = func(now kiosk.PrintProgress) {
			if now.Trouble == kiosk.TroubleMedia {
				received(t, p)
				p.Paper(t, ipp.A4Name, 100)
			}
		}
		if err := b.print(t.Context(), p, doc, s.report); err != nil {
			t.Fatal(err)
		}
		if !s.has(kiosk.PrintStopped, kiosk.TroubleMedia) {
			t.Errorf("nobody was told: %+v", s.all)
		}
		received(t, p, doc)
		if c := p.Told(t)["IPP_MEDIA_COL"]; !strings.Contains(c, "x-dimension=21000") || !strings.Contains(c, "y-dimension=29700") {
			t.Errorf("media-col=%q", c)
		}
	})
	t.Run("out of paper", func(t *testing.T) {
		t.Parallel()
		p := by["paper"]
		b.online(t, p)
		began := time.Now()
		p.Paper(t, ipp.A4Name, 0)
		within(t, "reason shown", began, 2500*time.Millisecond, func() bool { return b.device(p).Trouble == kiosk.TroublePaper })
		doc := document(t, p.Instance())
		var s said
		s.on = func(now kiosk.PrintProgress) {
			if now.Trouble == kiosk.TroublePaper {
				p.Paper(t, ipp.A4Name, 100)
			}
		}
		if err := b.print(t.Context(), p, doc, s.report); err != nil {
			t.Fatal(err)
		}
		if !s.has(kiosk.PrintStopped, kiosk.TroublePaper) {
			t.Errorf("nobody was told: %+v", s.all)
		}
		received(t, p, doc)
	})
	t.Run("toner", func(t *testing.T) {
		t.Parallel()
		p := by["toner"]
		b.online(t, p)
		reason := func(keywords ...string) bool {
			return slices.ContainsFunc(b.device(p).Reasons, func(r staff.Reason) bool { return slices.Contains(keywords, r.Keyword) })
		}
		p.Toner(t, 5)
		until(t, "staff see that it is low", 30*time.Second, func() bool { return reason("toner-low", "marker-supply-low") })
		if d := b.device(p); d.Trouble != kiosk.TroubleNone || d.State != kiosk.PrinterReady {
			t.Errorf("low toner is no trouble: %+v", d)
		}
		doc := document(t, p.Instance())
		if err := b.print(t.Context(), p, doc, nil); err != nil {
			t.Fatal(err)
		}
		received(t, p, doc)
		p.Toner(t, 0)
		until(t, "empty toner is trouble", 30*time.Second, func() bool { return b.device(p).Trouble == kiosk.TroubleToner })
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := b.print(ctx, p, document(t, "bianco"), func(now kiosk.PrintProgress) {
			if now.Trouble == kiosk.TroubleToner {
				cancel()
			}
		})
		if got := ended(err); got != "toner nothing_printed" {
			t.Errorf("ended with %s: %v", got, err)
		}
		received(t, p, doc)
	})
	t.Run("busy with somebody else's job", func(t *testing.T) {
		t.Parallel()
		p := by["busy"]
		b.online(t, p)
		leave := p.Occupy(t)
		doc := document(t, p.Instance())
		var s said
		left := false
		s.on = func(now kiosk.PrintProgress) {
			if now.State == kiosk.PrintWaiting && !left {
				left = true
				leave(t)
			}
		}
		if err := b.print(t.Context(), p, doc, s.report); err != nil {
			t.Fatal(err)
		}
		if !left {
			t.Errorf("nobody was told: %+v", s.all)
		}
		received(t, p, doc)
	})
	t.Run("asks for a password", func(t *testing.T) {
		t.Parallel()
		p := by["auth"]
		until(t, "seen", 60*time.Second, func() bool { return b.device(p).Presence == staff.Online })
		err := b.print(t.Context(), p, document(t, p.Instance()), nil)
		if got := ended(err); got != "auth nothing_printed" {
			t.Errorf("ended with %s: %v", got, err)
		}
		received(t, p)
	})
	t.Run("shows another key", func(t *testing.T) {
		t.Parallel()
		p := by["keys"]
		b.online(t, p)
		doc := document(t, p.Instance())
		if err := b.print(t.Context(), p, doc, nil); err != nil {
			t.Fatal(err)
		}
		old := p.Pin(t)
		p.NewKeys(t)
		began := time.Now()
		key := func(a staff.Alarm) bool {
			return a.Kind == staff.AlarmKey && a.Subject == p.UUID() && a.Old == old && a.New == p.Pin(t)
		}
		within(t, "alarm", began, 5*time.Second, func() bool { return slices.ContainsFunc(b.alarms.List(), key) })
		if d := b.device(p); d.Presence != staff.WrongIdentity || d.Fault != p.Pin(t) {
			t.Errorf("device %+v", d)
		}
		err := b.print(t.Context(), p, document(t, "segreto"), nil)
		if got := ended(err); got != "identity nothing_printed" {
			t.Errorf("ended with %s: %v", got, err)
		}
		received(t, p, doc)
	})
	t.Run("keeps somebody's sheet", func(t *testing.T) {
		t.Parallel()
		sheetStays(t, b, by["leaves"])
	})
	t.Run("gives the job up", func(t *testing.T) {
		t.Parallel()
		p := by["fails"]
		b.online(t, p)
		good := document(t, "prima")
		if err := b.print(t.Context(), p, good, nil); err != nil { // shows that it counts sheets
			t.Fatal(err)
		}
		p.Engine(t, "exit 1")
		bad := document(t, p.Instance())
		err := b.print(t.Context(), p, bad, nil)
		if got := ended(err); got != "other nothing_printed" {
			t.Errorf("ended with %s: %v", got, err)
		}
		received(t, p, good, bad) // once: an engine that gives up is not tried again
	})
}

// sheetStays has a visit end while its sheet waits in the printer for paper. It comes out for whoever loads some: until
// staff have looked nothing else is printed there, and then the next document alone.
func sheetStays(t *testing.T, b *box, p *lantest.Printer) {
	b.online(t, p)
	doc := document(t, p.Instance())
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	err := b.print(ctx, p, doc, func(now kiosk.PrintProgress) {
		switch {
		case now.State == kiosk.PrintSending && now.Trouble == kiosk.TroubleNone:
			p.Paper(t, ipp.A4Name, 0) // the last moment before the document goes
		case now.Trouble == kiosk.TroublePaper:
			leave()
		}
	})
	if got := ended(err); got != "paper uncertain" {
		t.Errorf("ended with %s: %v", got, err)
	}
	if b.device(p).Blocked == "" {
		t.Errorf("nobody keeps the next document from this printer: %+v", b.device(p))
	}
	sheet := func(a staff.Alarm) bool { return a.Kind == staff.AlarmSheet && a.Subject == p.UUID() }
	until(t, "staff are told", 30*time.Second, func() bool { return slices.ContainsFunc(b.alarms.List(), sheet) })
	if got := ended(b.print(t.Context(), p, document(t, "troppo presto"), nil)); got != "blocked nothing_printed" {
		t.Errorf("before staff have looked: %s", got)
	}
	p.Paper(t, ipp.A4Name, 100)
	until(t, "the printer is idle", 60*time.Second, p.Idle)
	before := p.Docs(t)
	if b.device(p).Blocked != "" {
		if err := b.Free(t.Context(), p.UUID(), "Anna"); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the alarm ends", 30*time.Second, func() bool { return !slices.ContainsFunc(b.alarms.List(), sheet) })
	next := document(t, "dopo")
	if err := b.print(t.Context(), p, next, nil); err != nil {
		t.Errorf("the next print: %v", err)
	}
	received(t, p, append(bytesOf(before), next)...)
}

// drawnAs checks that p has received exactly the picture of doc.
func drawnAs(t *testing.T, draw *raster.Rasteriser, p *lantest.Printer, doc []byte, format string) {
	t.Helper()
	docs := p.Docs(t)
	if len(docs) != 1 {
		t.Fatalf("%s received %d documents", p.Name(), len(docs))
	}
	r, err := pwgraster.NewReader(bytes.NewReader(docs[0].Bytes))
	if err != nil {
		t.Fatal(err)
	}
	page, err := r.Page()
	if err != nil {
		t.Fatal(err)
	}
	if a4 := pwgraster.A4().Page(page.DPI, page.Color); string(r.Format()) != format || page.Width != a4.Width || page.Height != a4.Height {
		t.Errorf("received %s %+v, want A4 in %s", r.Format(), page, format)
	}
	want, err := draw.Print(t.Context(), doc, raster.PrintOptions{Format: format, Color: raster.Color(page.Color), DPI: page.DPI})
	if err != nil {
		t.Fatal(err)
	}
	if docs[0].SHA256 != sha256.Sum256(want) {
		t.Errorf("the picture (%d bytes, %+v) is not that of the document (%d bytes)", len(docs[0].Bytes), page, len(want))
	}
}
