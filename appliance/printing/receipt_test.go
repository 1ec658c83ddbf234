package printing_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"sportello.example/appliance/escpos/escpostest"
	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/appliance/printing"
	"sportello.example/kiosk"
	"sportello.example/kiosk/paper"
	"sportello.example/kiosk/staff"
)

func receiptPrinter(t *testing.T) *escpostest.Printer {
	t.Helper()
	p := escpostest.New(escpostest.Config{Feed: time.Millisecond})
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

const receiptUUID = "0f0e0d0c-0b0a-4908-8706-050403020100"

func receiptAdopted(p *escpostest.Printer) staff.Adopted {
	return staff.Adopted{UUID: receiptUUID, Name: "Scontrini", URI: p.URI(), Receipt: true}
}

func slipJob() kiosk.PrintJob {
	job := jobOf(pdf(1, 100), 1)
	job.Kind = "slip"
	job.Slip = &paper.SlipForm{
		Code: "K7M2PQ", Branch: "Città Studi", Left: time.Date(2026, time.November, 22, 15, 7, 0, 0, time.UTC), Language: "en",
		Certificates: []string{"Certificato di residenza"},
	}
	return job
}

func TestSlips(t *testing.T) {
	for _, tt := range []struct {
		name    string
		do      func(p *escpostest.Printer)
		job     func(*kiosk.PrintJob)
		want    string
		slips   int // that came out of the receipt printer
		sheets  int // that came out of the other
		journal string
	}{
		{"goes to the receipt printer", func(*escpostest.Printer) {}, nil, "done", 1, 0, "queued sending sent done"},
		{"no paper: goes on A4", func(p *escpostest.Printer) { p.Paper(0) }, nil, "done", 0, 1, "queued sending nothing-printed"},
		{"cable pulled: goes on A4", func(p *escpostest.Printer) { _ = p.Gone(true) }, nil, "done", 0, 1, "queued sending nothing-printed"},
		{"cut halfway: nobody knows", func(p *escpostest.Printer) { p.CutAfter(700) }, nil, "unreachable uncertain", 0, 0, "queued sending"},
		{"a certificate never does", func(*escpostest.Printer) {}, func(j *kiosk.PrintJob) { j.Kind = "certificate" }, "done", 0, 1, ""},
		{"nor what has no slip", func(*escpostest.Printer) {}, func(j *kiosk.PrintJob) { j.Slip = nil }, "done", 0, 1, ""},
		{"nor one that cannot be written", func(*escpostest.Printer) {}, func(j *kiosk.PrintJob) { j.Slip.Code = "" }, "done", 0, 1, ""},
		{"nor what the citizen wants elsewhere", func(*escpostest.Printer) {}, func(j *kiosk.PrintJob) { j.Printer = "other" }, "done", 0, 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			receipts, other := receiptPrinter(t), start(t, ipptest.Config{UUID: "11111111-2222-4333-8444-555555555555"})
			j := &memory{}
			cfg := quick(other, j)
			cfg.Adopted = append([]staff.Adopted{receiptAdopted(receipts)}, cfg.Adopted...)
			s := spooler(t, cfg)
			run(t, s)
			until(t, "both printers seen", 20*time.Second, func() bool {
				for _, p := range s.Devices() {
					if p.Presence != staff.Online {
						return false
					}
				}
				return len(s.Devices()) == 2
			})
			tt.do(receipts)
			job := slipJob()
			if tt.job != nil {
				tt.job(&job)
			}
			if job.Printer == "other" {
				job.Printer = other.UUID()
			}
			if got := describe(s.Print(t.Context(), job, func(kiosk.PrintProgress) {})); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if n := len(receipts.Slips()); n != tt.slips {
				t.Errorf("%d slips, want %d", n, tt.slips)
			}
			if n := len(other.Sheets()); n != tt.sheets {
				t.Errorf("%d sheets, want %d", n, tt.sheets)
			}
			if h := j.history(); !strings.HasPrefix(h, tt.journal) || tt.slips+tt.sheets == 0 && !strings.HasSuffix(h, " uncertain") || tt.sheets > 0 && !strings.HasSuffix(h, " done") {
				t.Errorf("journal %q, want %q", h, tt.journal)
			}
			rows := j.all()
			if last := rows[len(rows)-1]; last.State == printing.Uncertain &&
				(last.Why == "" || last.Sent != last.Bytes || last.Sheets != -1 || last.PrinterUUID != receiptUUID || last.Kind != "slip") {
				t.Errorf("row %+v", last)
			}
		})
	}
}

func TestSlipWaitsForPaper(t *testing.T) {
	for _, givenUp := range []bool{false, true} {
		receipts := receiptPrinter(t)
		receipts.Paper(12)
		j := &memory{}
		cfg := quick(start(t, ipptest.Config{}), j)
		cfg.Adopted = []staff.Adopted{receiptAdopted(receipts)}
		s := spooler(t, cfg)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var said []kiosk.PrintProgress
		err := s.Print(ctx, slipJob(), func(p kiosk.PrintProgress) {
			said = append(said, p)
			if p.State == kiosk.PrintStopped && givenUp {
				cancel()
			} else if p.State == kiosk.PrintStopped {
				receipts.Paper(-1)
			}
		})
		want := []kiosk.PrintProgress{
			{State: kiosk.PrintSending}, {State: kiosk.PrintPrinting}, {State: kiosk.PrintStopped, Trouble: kiosk.TroublePaper},
		}
		for i, p := range want {
			if i >= len(said) || said[i] != p {
				t.Fatalf("given up %v: said %+v, want it to begin with %+v", givenUp, said, want)
			}
		}
		if got, want := describe(err), map[bool]string{false: "done", true: "paper uncertain"}[givenUp]; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if pe := kiosk.AsPrintError(err); givenUp && pe.Print != j.all()[0].ID {
			t.Errorf("print %q of %+v", pe.Print, j.all())
		}
	}
}

func TestSlipGoesToItsOwnPortOnly(t *testing.T) {
	receipts := receiptPrinter(t) // on the loopback: whoever has the address there is not the one on the port
	cfg := quick(start(t, ipptest.Config{}), &memory{})
	a := receiptAdopted(receipts)
	a.Link, a.Interface = staff.LinkDedicated, "no-such-port"
	cfg.Adopted = []staff.Adopted{a}
	s := spooler(t, cfg)
	if got := describe(s.Print(t.Context(), slipJob(), func(kiosk.PrintProgress) {})); got != "unreachable nothing_printed" {
		t.Errorf("%s, want that nobody is there", got)
	}
	if n := len(receipts.Slips()); n != 0 {
		t.Errorf("%d slips came out of another printer", n)
	}
}
