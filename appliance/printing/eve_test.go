package printing_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"sportello.example/appliance/ipp"
	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/appliance/ipp/ipptest/eve"
	"sportello.example/appliance/printing"
	"sportello.example/appliance/raster"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// onEve starts an ippeveprinter and a spooler that prints on it.
func onEve(t *testing.T, cfg eve.Config, scheme string) (*eve.Printer, *printing.Spooler, *memory) {
	t.Helper()
	cfg.Dir = t.TempDir()
	p, err := eve.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	j := &memory{}
	scfg := quick(ipptest.New(ipptest.Config{}), j)
	scfg.Adopted = []staff.Adopted{{UUID: uuidOf(t, p.URI(scheme)), URI: p.URI(scheme), PDF: true}}
	return p, spooler(t, scfg), j
}

// uuidOf is what a printer says it is.
func uuidOf(t *testing.T, uri string) string {
	t.Helper()
	c, err := ipp.New(ipp.Config{URI: uri})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	is, err := c.Printer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return is.UUID
}

func kept(t *testing.T, p *eve.Printer, want ...[]byte) {
	t.Helper()
	docs, err := p.Documents()
	if err != nil {
		t.Fatal(err)
	}
	if len(docs) != len(want) {
		t.Fatalf("ippeveprinter kept %d documents, want %d", len(docs), len(want))
	}
	for i := range docs {
		if !bytes.Equal(docs[i], want[i]) {
			t.Errorf("document %d is not the one sent: %d bytes, want %d", i, len(docs[i]), len(want[i]))
		}
	}
}

func TestIppeveprinter(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"ipp", "ipps"} {
		t.Run("byte for byte over "+scheme, func(t *testing.T) {
			t.Parallel()
			p, s, j := onEve(t, eve.Config{}, scheme)
			if err := p.Load(t.Context(), ipp.A4Name, 100); err != nil {
				t.Fatal(err)
			}
			doc := pdf(2, 200_000)
			var seen progress
			if err := s.Print(t.Context(), jobOf(doc, 2), seen.report); err != nil {
				t.Fatal(err)
			}
			kept(t, p, doc)
			if row := j.all()[0]; row.State != printing.Done || row.JobUUID == "" {
				t.Errorf("row %+v", row)
			}
			if seen.has(kiosk.PrintStopped, kiosk.TroublePaused) {
				t.Errorf("reported %+v", seen.seen)
			}
		})
	}
	t.Run("is told to load A4 instead of printing on Letter", func(t *testing.T) {
		t.Parallel()
		p, s, _ := onEve(t, eve.Config{}, "ipp")
		run(t, s)
		until(t, "status", 20*time.Second, func() bool { return s.Status().Trouble == kiosk.TroubleMedia })
		doc := pdf(1, 1000)
		err := s.Print(t.Context(), jobOf(doc, 1), func(now kiosk.PrintProgress) {
			if now.State == kiosk.PrintStopped && now.Trouble == kiosk.TroubleMedia {
				kept(t, p)
				if err := p.Load(context.Background(), ipp.A4Name, 100); err != nil {
					t.Error(err)
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		kept(t, p, doc)
	})
	t.Run("takes no PDF", func(t *testing.T) {
		t.Parallel()
		p, s, _ := onEve(t, eve.Config{Formats: "image/pwg-raster"}, "ipp")
		if got := describe(s.Print(t.Context(), jobOf(pdf(1, 100), 1), func(kiosk.PrintProgress) {})); got != "format nothing_printed" {
			t.Errorf("got %s", got)
		}
		kept(t, p)
	})
	t.Run("takes pictures", func(t *testing.T) {
		t.Parallel()
		p, _, _ := onEve(t, eve.Config{Formats: "image/pwg-raster"}, "ipp")
		if err := p.Load(t.Context(), ipp.A4Name, 100); err != nil {
			t.Fatal(err)
		}
		cfg := quick(ipptest.New(ipptest.Config{}), &memory{})
		cfg.Adopted = []staff.Adopted{{UUID: uuidOf(t, p.URI("ipp")), URI: p.URI("ipp"), PDF: true}}
		cfg.Raster = drawer{}
		doc := pdf(2, 1000)
		if err := spooler(t, cfg).Print(t.Context(), jobOf(doc, 2), func(kiosk.PrintProgress) {}); err != nil {
			t.Fatal(err)
		}
		picture, err := drawer{}.Print(t.Context(), doc, raster.PrintOptions{Format: raster.PWG, Color: raster.Gray, DPI: 300})
		if err != nil {
			t.Fatal(err)
		}
		kept(t, p, picture)
	})
	t.Run("is out of paper", func(t *testing.T) {
		t.Parallel()
		p, s, _ := onEve(t, eve.Config{}, "ipp")
		if err := p.Load(t.Context(), ipp.A4Name, 0); err != nil {
			t.Fatal(err)
		}
		doc := pdf(1, 1000)
		loaded := false
		err := s.Print(t.Context(), jobOf(doc, 1), func(now kiosk.PrintProgress) {
			if now.State == kiosk.PrintStopped && now.Trouble == kiosk.TroublePaper && !loaded {
				loaded = true
				kept(t, p)
				if err := p.Load(context.Background(), ipp.A4Name, 100); err != nil {
					t.Error(err)
				}
			}
		})
		if err != nil || !loaded {
			t.Fatalf("%v, told of paper: %v", err, loaded)
		}
		kept(t, p, doc)
	})
	counted := `echo "ATTR: job-impressions-completed=1" >&2; `
	for _, tt := range []struct {
		name   string
		engine string
		used   bool // a job is printed first, and counted
		cancel bool // while it prints
		pages  int
		want   string
	}{
		{"aborts the job and is not known to count", "exit 1", false, false, 1, "other uncertain"},
		{"aborts the job", "exit 1", true, false, 1, "other nothing_printed"},
		{"aborts the job after a sheet", counted + "sleep 1; exit 1", false, false, 2, "other partly_printed"},
		{"aborts the job after the last sheet", counted + "sleep 1; exit 1", false, false, 1, "other uncertain"},
		{"is cancelled while it prints and is not known to count", "sleep 20", false, true, 1, " uncertain"},
		{"is cancelled after a sheet", counted + "sleep 0.8", false, true, 2, " partly_printed"},
		{"is cancelled after the last sheet", counted + "sleep 0.8", false, true, 1, "done"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			engine := tt.engine
			if tt.used {
				engine = `[ -e "$0.used" ] || { touch "$0.used"; ` + counted + "exit 0; }; " + engine
			}
			p, s, _ := onEve(t, eve.Config{Engine: engine}, "ipp")
			if err := p.Load(t.Context(), ipp.A4Name, 100); err != nil {
				t.Fatal(err)
			}
			if tt.used {
				if err := s.Print(t.Context(), jobOf(pdf(1, 100), 1), func(kiosk.PrintProgress) {}); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			err := s.Print(ctx, jobOf(pdf(tt.pages, 100), tt.pages), func(now kiosk.PrintProgress) {
				if tt.cancel && now.State == kiosk.PrintPrinting && (now.Page > 0 || tt.engine == "sleep 20") {
					cancel()
				}
			})
			if got := describe(err); got != tt.want {
				t.Errorf("got %s (%v), want %s", got, err, tt.want)
			}
		})
	}
}
