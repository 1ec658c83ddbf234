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
	"sportello.example/kiosk"
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
	c, err := ipp.New(ipp.Config{URI: p.URI(scheme)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	is, err := c.Printer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	j := &memory{}
	scfg := quick(ipptest.New(ipptest.Config{}), j)
	scfg.Approved = []printing.Approved{{UUID: is.UUID, URI: p.URI(scheme)}}
	return p, spooler(t, scfg), j
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
	for _, scheme := range []string{"ipp", "ipps"} {
		t.Run("byte for byte over "+scheme, func(t *testing.T) {
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
		p, s, _ := onEve(t, eve.Config{}, "ipp")
		run(t, s)
		until(t, "status", 2*time.Second, func() bool { return s.Status().Trouble == kiosk.TroubleMedia })
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
		p, s, _ := onEve(t, eve.Config{Formats: "image/pwg-raster"}, "ipp")
		if got := describe(s.Print(t.Context(), jobOf(pdf(1, 100), 1), func(kiosk.PrintProgress) {})); got != "format nothing_printed" {
			t.Errorf("got %s", got)
		}
		kept(t, p)
	})
	t.Run("is out of paper", func(t *testing.T) {
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
	t.Run("aborts the job", func(t *testing.T) {
		p, s, j := onEve(t, eve.Config{Engine: "exit 1"}, "ipp")
		if err := p.Load(t.Context(), ipp.A4Name, 100); err != nil {
			t.Fatal(err)
		}
		err := s.Print(t.Context(), jobOf(pdf(1, 100), 1), func(kiosk.PrintProgress) {})
		if got := describe(err); got != "other nothing_printed" || len(j.all()) != 1 {
			t.Errorf("got %s (%v), %d rows", got, err, len(j.all()))
		}
	})
	t.Run("is cancelled while it prints", func(t *testing.T) {
		p, s, _ := onEve(t, eve.Config{Engine: "sleep 20"}, "ipp")
		if err := p.Load(t.Context(), ipp.A4Name, 100); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := s.Print(ctx, jobOf(pdf(1, 100), 1), func(now kiosk.PrintProgress) {
			if now.State == kiosk.PrintPrinting {
				cancel()
			}
		})
		if o := kiosk.AsPrintError(err).Outcome; o != kiosk.Cancelled && o != kiosk.Uncertain {
			t.Errorf("got %v", err)
		}
	})
}
