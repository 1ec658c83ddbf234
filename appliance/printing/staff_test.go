package printing_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/appliance/printing"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

func TestDevices(t *testing.T) {
	t.Parallel()
	p := start(t, ipptest.Config{Name: "Anagrafe", PageTime: 50 * time.Millisecond})
	p.SetPaper(5)
	p.Toner(40)
	p.Message("Tutto bene")
	p.Reasons("toner-low-warning")
	j := &memory{rows: []printing.Row{
		{ID: "a", State: printing.Done, PrinterUUID: p.UUID(), Pages: 7, Updated: time.Now()},
		{ID: "b", State: printing.Done, PrinterUUID: p.UUID(), Pages: 9, Updated: time.Now().Add(-48 * time.Hour)},
	}}
	cfg := quick(p, j)
	midnight := time.Now().Add(-time.Hour)
	cfg.Day = func() time.Time { return midnight }
	s := spooler(t, cfg)
	run(t, s)
	until(t, "seen", 10*time.Second, func() bool { d := device(t, s); return d.Presence == staff.Online && d.PagesToday == 7 })
	d := device(t, s)
	if d.UUID != p.UUID() || d.Name != "Anagrafe" || d.URI != p.URI() || d.State != kiosk.PrinterReady || d.Message != "Tutto bene" ||
		d.Format != "application/pdf" || d.Others != 0 || len(d.Queue) != 0 || d.Blocked != "" {
		t.Errorf("device %+v", d)
	}
	if want := []staff.Reason{{Keyword: "toner-low", Severity: "warning"}, {Keyword: "media-low", Severity: "warning"}}; !slices.Equal(d.Reasons, want) {
		t.Errorf("reasons %+v, want %+v", d.Reasons, want)
	}
	if len(d.Trays) != 1 || d.Trays[0].Level != 5 || d.Trays[0].Media != "iso_a4_210x297mm" || len(d.Supplies) == 0 || d.Supplies[0].Level != 40 {
		t.Errorf("trays %+v, supplies %+v", d.Trays, d.Supplies)
	}

	// Two of ours and, as the printer says, nobody else's.
	errs := make(chan error, 2)
	for range 2 {
		go func() { errs <- s.Print(t.Context(), jobOf(pdf(2, 100), 2), func(kiosk.PrintProgress) {}) }()
	}
	until(t, "the queue", 10*time.Second, func() bool {
		d := device(t, s)
		return len(d.Queue) == 2 && d.Queue[0].State != d.Queue[1].State && d.Others == 0
	})
	if q := device(t, s).Queue[0]; q.ID == "" || q.Kiosk != 1 || q.Kind != "certificate" || q.Since.IsZero() {
		t.Errorf("queue %+v", q)
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	until(t, "they are counted", 10*time.Second, func() bool { d := device(t, s); return d.PagesToday == 11 && len(d.Queue) == 0 })

	// What stopped it is an error, whatever it calls it.
	p.Reasons("fuser-over-temp-report")
	p.Stopped(true)
	until(t, "stopped", 10*time.Second, func() bool {
		d := device(t, s)
		return len(d.Reasons) > 0 && d.Reasons[0] == staff.Reason{Keyword: "fuser-over-temp", Severity: "error"} && d.Trouble == kiosk.TroubleHot
	})
}

func TestTestPage(t *testing.T) {
	t.Parallel()
	p, second := start(t, ipptest.Config{}), start(t, ipptest.Config{Name: "Sala 2"})
	j := &memory{}
	cfg := quick(p, j)
	cfg.Adopted = append(cfg.Adopted, staff.Adopted{UUID: second.UUID(), URI: second.URI(), PDF: true})
	page := pdf(1, 500)
	named := make(chan string, 1)
	cfg.TestPage = func(printer string) ([]byte, error) { named <- printer; return page, nil }
	s := spooler(t, cfg)
	run(t, s)
	until(t, "both are seen", 10*time.Second, func() bool {
		all := s.Printers()
		return all[0].State == kiosk.PrinterReady && all[1].State == kiosk.PrinterReady
	})
	if err := s.TestPage(t.Context(), second.UUID()); err != nil || <-named != "Sala 2" {
		t.Error(err)
	}
	if docs := second.Documents(); len(docs) != 1 || !bytes.Equal(docs[0], page) || j.all()[0].Kind != "test" {
		t.Errorf("%d documents", len(docs))
	}
	if got := describe(s.TestPage(t.Context(), "x")); got != "none nothing_printed" {
		t.Errorf("no such printer: %s", got)
	}
}

// TestTrial prints the adoption page on printers that nobody has adopted.
func TestTrial(t *testing.T) {
	t.Parallel()
	page := pdf(1, 500)
	for _, tt := range []struct {
		name   string
		cfg    ipptest.Config
		do     func(p *ipptest.Printer, a *staff.Adopted)
		raster bool
		format string
		want   string
	}{
		{"as PDF", ipptest.Config{}, func(*ipptest.Printer, *staff.Adopted) {}, false, "application/pdf", "done"},
		{"as PDF over TLS", ipptest.Config{TLS: true}, func(*ipptest.Printer, *staff.Adopted) {}, false, "application/pdf", "done"},
		{"as a picture", ipptest.Config{}, func(p *ipptest.Printer, _ *staff.Adopted) { p.Formats("application/pdf", "image/pwg-raster") }, true, "image/pwg-raster", "done"},
		{"takes no PDF", ipptest.Config{}, func(p *ipptest.Printer, _ *staff.Adopted) { p.Formats("image/pwg-raster", "image/urf") }, false, "image/urf", "done"},
		{"takes nothing we have", ipptest.Config{}, func(p *ipptest.Printer, _ *staff.Adopted) { p.Formats("application/vnd.hp-PCL") }, false, "", "format nothing_printed"},
		{"asks for a password", ipptest.Config{}, func(p *ipptest.Printer, _ *staff.Adopted) { p.Password("u", "p") }, false, "", "auth nothing_printed"},
		{"is another machine", ipptest.Config{}, func(_ *ipptest.Printer, a *staff.Adopted) { a.UUID = "11111111-2222-4333-8444-555555555555" }, false, "", "identity nothing_printed"},
		{"has another key", ipptest.Config{TLS: true}, func(p *ipptest.Printer, a *staff.Adopted) { a.Keys = start(t, ipptest.Config{TLS: true}).Pins() }, false, "", "identity nothing_printed"},
		{"would be in the clear", ipptest.Config{}, func(_ *ipptest.Printer, a *staff.Adopted) { a.Link = staff.LinkTLS }, false, "", "identity nothing_printed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, tt.cfg)
			var b bell
			cfg := quick(p, &memory{})
			cfg.Adopted = nil
			cfg.Raster = drawer{}
			b.use(&cfg)
			s := spooler(t, cfg)
			a := staff.Adopted{UUID: p.UUID(), URI: p.URI(), Keys: p.Pins()}
			tt.do(p, &a)
			format, err := s.Trial(t.Context(), a, page, tt.raster)
			if format != tt.format || describe(err) != tt.want {
				t.Errorf("got %q, %s (%v); want %q, %s", format, describe(err), err, tt.format, tt.want)
			}
			if n := len(p.Sheets()); (n == 1) != (tt.want == "done") {
				t.Errorf("%d sheets", n)
			}
			if len(b.List()) > 0 || len(s.Devices()) > 0 || s.Status().State != kiosk.PrinterNone {
				t.Errorf("a printer that is not adopted concerns nobody: %+v, %+v", b.List(), s.Status())
			}
		})
	}
}

// TestTrialWaitsForAHand gives up when nobody comes, and leaves nothing in the printer.
func TestTrialWaitsForAHand(t *testing.T) {
	t.Parallel()
	p := start(t, ipptest.Config{})
	p.SetPaper(0)
	cfg := quick(p, &memory{})
	a := cfg.Adopted[0]
	cfg.Adopted = nil
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for p.Requests("Get-Printer-Attributes") < 5 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	_, err := spooler(t, cfg).Trial(ctx, a, pdf(1, 10), false)
	<-asked
	if got := describe(err); got != "paper nothing_printed" || !errors.Is(err, context.Canceled) || p.Requests("Create-Job") > 0 {
		t.Errorf("got %s (%v), %d jobs", got, err, p.Requests("Create-Job"))
	}
}
