package printing_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/appliance/printing"
	"sportello.example/kiosk"
)

func TestPrints(t *testing.T) {
	p := start(t, ipptest.Config{})
	j := &memory{}
	s := spooler(t, quick(p, j))
	doc := pdf(3, 20000)
	var seen progress
	if err := s.Print(t.Context(), jobOf(doc, 3), seen.report); err != nil {
		t.Fatal(err)
	}
	if docs := p.Documents(); len(docs) != 1 || !bytes.Equal(docs[0], doc) {
		t.Errorf("%d documents came out, want the one that was printed", len(docs))
	}
	if n := len(p.Sheets()); n != 3 || p.Sheets()[0].Media != "iso_a4_210x297mm" {
		t.Errorf("%d sheets on %s", n, p.Sheets()[0].Media)
	}
	if got, want := j.history(), "queued creating created sending sent printing done"; got != want {
		t.Errorf("journal: %s, want %s", got, want)
	}
	row := j.all()[0]
	if row.JobID != 1 || row.JobUUID == "" || row.UpTime < 1 || row.PrinterUUID != p.UUID() || row.PrinterURI != p.URI() ||
		row.Bytes != len(doc) || row.Pages != 3 || row.Kiosk != 1 || row.Session != "s" || row.SHA256 != fmt.Sprintf("%x", jobOf(doc, 3).SHA256) {
		t.Errorf("row %+v", row)
	}
	if p.Sheets()[0].JobName != row.ID {
		t.Errorf("the printer's panel shows %q", p.Sheets()[0].JobName)
	}
	if !seen.has(kiosk.PrintSending, "") || !seen.has(kiosk.PrintPrinting, "") {
		t.Errorf("reported %+v", seen.seen)
	}
}

// TestMisbehaviour prints one document on a printer that has printed for somebody else, and misbehaves then.
func TestMisbehaviour(t *testing.T) {
	t.Parallel()
	size := 300_000
	slow := func(p *ipptest.Printer) { p.PageTime(time.Second) } // a cancel comes before, also on a busy machine
	for _, tt := range []struct {
		name  string
		do    func(*ipptest.Printer)
		want  string
		docs  int // that came out, whole or not
		row   printing.State
		count int // rows
	}{
		{"nothing wrong", func(*ipptest.Printer) {}, "done", 1, printing.Done, 1},
		{"IPP/1.1 only", func(p *ipptest.Printer) { p.OnlyVersion11(true) }, "done", 1, printing.Done, 1},
		{"takes no PDF", func(p *ipptest.Printer) { p.Formats("image/urf") }, "format nothing_printed", 0, printing.Failed, 1},
		{"says no to Validate-Job", func(p *ipptest.Printer) { p.Refuse("Validate-Job", 0x040a) }, "format nothing_printed", 0, printing.Failed, 1},
		{"has no Validate-Job", func(p *ipptest.Printer) { p.Refuse("Validate-Job", 0x0501) }, "done", 1, printing.Done, 1},
		{"would take any paper", func(p *ipptest.Printer) { p.IgnoreMedia(true) }, "media nothing_printed", 0, printing.Failed, 1},
		{"refuses the job", func(p *ipptest.Printer) { p.Refuse("Create-Job", 0x0403) }, "other nothing_printed", 0, printing.Failed, 1},
		{"refuses the document", func(p *ipptest.Printer) { p.Refuse("Send-Document", 0x040a) }, "format nothing_printed", 0, printing.Failed, 1},
		{"is another machine", func(p *ipptest.Printer) { p.SetUUID("11111111-2222-4333-8444-555555555555") }, "identity nothing_printed", 0, printing.Failed, 1},
		{"is not there", func(p *ipptest.Printer) { _ = p.Gone(true) }, "unreachable nothing_printed", 0, printing.Failed, 1},
		{"is busy for too long", func(p *ipptest.Printer) { p.Busy(true) }, "busy nothing_printed", 0, printing.Failed, 1},
		{"loses the answer to Create-Job", func(p *ipptest.Printer) { p.LoseAnswer("Create-Job") }, "done", 1, printing.Done, 1},
		{"loses the answer to Send-Document", func(p *ipptest.Printer) { p.LoseAnswer("Send-Document"); slow(p) }, "done", 1, printing.Done, 2},
		{"loses the answer and is fast", func(p *ipptest.Printer) { p.LoseAnswer("Send-Document"); p.PageTime(time.Nanosecond) }, "unreachable uncertain", 1, printing.Uncertain, 1},
		{"loses the answer, is not known to count", func(p *ipptest.Printer) { p.LoseAnswer("Send-Document"); slow(p) }, "unreachable uncertain", 0, printing.Uncertain, 1},
		{"is cut at the first byte", func(p *ipptest.Printer) { p.CutAfter(0); slow(p) }, "unreachable uncertain", 0, printing.Uncertain, 1},
		{"is cut halfway, aborts", func(p *ipptest.Printer) { p.CutAfter(size / 2); p.AbortOnCut(true) }, "done", 1, printing.Done, 2},
		{"is cut halfway, prints half slowly", func(p *ipptest.Printer) { p.CutAfter(size / 2); slow(p) }, "done", 1, printing.Done, 2},
		{"is cut halfway, prints half at once", func(p *ipptest.Printer) { p.CutAfter(size / 2); p.PageTime(time.Nanosecond) }, "unreachable uncertain", 1, printing.Uncertain, 1},
		{"is cut halfway, aborts, is not known to count", func(p *ipptest.Printer) { p.CutAfter(size / 2); p.AbortOnCut(true) }, "unreachable uncertain", 0, printing.Uncertain, 1},
		{"cancels the document at its panel", func(p *ipptest.Printer) { p.Refuse("Send-Document", 0x0508); slow(p) }, "other nothing_printed", 0, printing.Failed, 1},
		{"cancels at its panel, is not known to count", func(p *ipptest.Printer) { p.Refuse("Send-Document", 0x0508); slow(p) }, "other uncertain", 0, printing.Uncertain, 1},
		{"forgets ended jobs", func(p *ipptest.Printer) { p.Forget(true) }, "other uncertain", 1, printing.Uncertain, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, ipptest.Config{})
			before := 0
			if !strings.HasSuffix(tt.name, "is not known to count") {
				before = used(t, p)
			}
			j := &memory{}
			s := spooler(t, quick(p, j))
			tt.do(p)
			err := s.Print(t.Context(), jobOf(pdf(1, size), 1), func(kiosk.PrintProgress) {})
			if got := describe(err); got != tt.want {
				t.Errorf("got %s (%v), want %s", got, err, tt.want)
			}
			if n := len(p.Documents()) - before; n != tt.docs {
				t.Errorf("%d documents came out, want %d", n, tt.docs)
			}
			rows := j.all()
			if len(rows) != tt.count || rows[len(rows)-1].State != tt.row {
				t.Errorf("journal %+v: want %d rows, the last %s", rows, tt.count, tt.row)
			}
		})
	}
}

// TestWaitsForAHand prints on a printer that needs a hand, before or during the job, and gets it after a while.
func TestWaitsForAHand(t *testing.T) {
	for _, tt := range []struct {
		name    string
		do      func(p *ipptest.Printer, trouble bool)
		trouble kiosk.Trouble
	}{
		{"paper", func(p *ipptest.Printer, on bool) {
			if p.SetPaper(0); !on {
				p.SetPaper(10)
			}
		}, kiosk.TroublePaper},
		{"jam", func(p *ipptest.Printer, on bool) { p.Jam(on) }, kiosk.TroubleJam},
		{"cover", func(p *ipptest.Printer, on bool) { p.Cover(on) }, kiosk.TroubleCover},
		{"gone", func(p *ipptest.Printer, on bool) { _ = p.Gone(on) }, kiosk.TroubleUnreachable},
		{"no A4", func(p *ipptest.Printer, on bool) {
			if p.Media("na_letter_8.5x11in"); !on {
				p.Media("iso_a4_210x297mm")
			}
		}, kiosk.TroubleMedia},
	} {
		for _, during := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, during the job %v", tt.name, during), func(t *testing.T) {
				t.Parallel()
				p := start(t, ipptest.Config{PageTime: 60 * time.Millisecond})
				s := spooler(t, quick(p, &memory{}))
				want := tt.trouble
				if during && want == kiosk.TroubleMedia {
					want = kiosk.TroublePaper // the printer says "media-needed"
				}
				if during {
					p.OnSheet(func(sheet ipptest.Sheet) {
						if sheet.Page == 1 {
							tt.do(p, true)
						}
					})
				} else {
					tt.do(p, true)
				}
				var seen progress
				stopped := make(chan struct{}, 100)
				seen.on = func(now kiosk.PrintProgress) {
					if now.State == kiosk.PrintStopped {
						stopped <- struct{}{}
					}
				}
				go func() {
					<-stopped
					time.Sleep(30 * time.Millisecond)
					tt.do(p, false)
				}()
				doc := pdf(4, 1000)
				if err := s.Print(t.Context(), jobOf(doc, 4), seen.report); err != nil {
					t.Fatal(err)
				}
				if !seen.has(kiosk.PrintStopped, want) {
					t.Errorf("reported %+v, want %s", seen.seen, want)
				}
				if docs := p.Documents(); len(docs) != 1 || !bytes.Equal(docs[0], doc) || len(p.Sheets()) != 4 {
					t.Errorf("%d documents, %d sheets", len(docs), len(p.Sheets()))
				}
			})
		}
	}
}

func TestTroubleIsToldWithinFiveSeconds(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(p *ipptest.Printer)
		want kiosk.Trouble
	}{
		{"paper", func(p *ipptest.Printer) { p.SetPaper(0) }, kiosk.TroublePaper},
		{"jam", func(p *ipptest.Printer) { p.Jam(true) }, kiosk.TroubleJam},
		{"gone", func(p *ipptest.Printer) { _ = p.Gone(true) }, kiosk.TroubleUnreachable},
		{"frozen", func(p *ipptest.Printer) { p.Freeze(true) }, kiosk.TroubleUnreachable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n ipptest.Net
				p := start(t, ipptest.Config{PageTime: 50 * time.Millisecond, Listen: listen(&n, "127.0.0.1:631")})
				cfg := quick(p, &memory{})
				cfg.Idle, cfg.Active, cfg.Session, cfg.Poll, cfg.Gone, cfg.Grace = 0, 0, 0, 0, 0, 0 // as in a branch
				cfg.Dial = dial(&n)
				s := spooler(t, cfg)
				ctx, cancel := context.WithCancel(t.Context())
				ran, printed := make(chan error), make(chan error)
				go func() { ran <- s.Run(ctx) }()
				time.Sleep(30 * time.Second)
				if st := s.Status(); st.State != kiosk.PrinterReady {
					t.Fatalf("before: %+v", st)
				}
				sheet, told := make(chan time.Time, 2), make(chan time.Time, 20)
				p.OnSheet(func(ipptest.Sheet) {
					tt.do(p)
					sheet <- time.Now()
				})
				go func() {
					printed <- s.Print(ctx, jobOf(pdf(2, 1000), 2), func(now kiosk.PrintProgress) {
						if now.Trouble == tt.want {
							told <- time.Now()
						}
					})
				}()
				began := <-sheet
				select {
				case at := <-told:
					if after := at.Sub(began); after > 5*time.Second {
						t.Errorf("the job said so after %v", after)
					}
				case <-time.After(time.Minute):
					t.Error("the job did not say so")
				}
				for s.Status().Trouble != tt.want {
					if time.Since(began) > 10*time.Second {
						t.Fatalf("the status does not say so: %+v", s.Status())
					}
					time.Sleep(10 * time.Millisecond)
				}
				p.Freeze(false)
				cancel()
				<-printed // whatever came of it
				if err := <-ran; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestCancel gives up a document of three pages. Another try is allowed only where no sheet can be out.
func TestCancel(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fresh bool // the printer has no history that shows that it counts
		do    func(*ipptest.Printer)
		when  kiosk.PrintState
		pages int // of the job
		want  string
		docs  int
		row   printing.State
	}{
		{"while there is no paper", true, func(p *ipptest.Printer) { p.SetPaper(0) }, kiosk.PrintStopped, 3, "paper nothing_printed", 0, printing.Cancelled},
		{"while it is busy", true, func(p *ipptest.Printer) { p.Busy(true) }, kiosk.PrintWaiting, 3, "busy nothing_printed", 0, printing.Cancelled},
		{"before the first sheet", false, func(p *ipptest.Printer) { p.PageTime(150 * time.Millisecond) }, kiosk.PrintPrinting, 3, " nothing_printed", 0, printing.Cancelled},
		{"before the first sheet, not known to count", true, func(p *ipptest.Printer) { p.PageTime(150 * time.Millisecond) }, kiosk.PrintPrinting, 3, " uncertain", 0, printing.Uncertain},
		{"after the first sheet", true, func(p *ipptest.Printer) { p.SetPaper(1) }, kiosk.PrintStopped, 3, "paper partly_printed", 1, printing.Cancelled},
		{"after the last sheet but one", true, func(p *ipptest.Printer) { p.SetPaper(2) }, kiosk.PrintStopped, 3, "paper partly_printed", 1, printing.Cancelled},
		// The simulator completes a job with its last sheet, so it is given one more than the job is said to have.
		{"after the last sheet", true, func(p *ipptest.Printer) { p.SetPaper(2) }, kiosk.PrintStopped, 2, "done", 1, printing.Done},
		{"while it waits to read the document", false, func(p *ipptest.Printer) {
			p.Streaming(true)
			p.Media("na_letter_8.5x11in", "iso_a4_210x297mm")
			p.OnState(func(int, string) {})
		}, kiosk.PrintSending, 3, " nothing_printed", 0, printing.Cancelled},
		{"and it only marks the job", false, func(p *ipptest.Printer) { p.SetPaper(1); p.StickyCancel(true) }, kiosk.PrintStopped, 3, "paper uncertain", 1, printing.Uncertain},
		{"and it is gone", false, func(p *ipptest.Printer) {
			p.OnSheet(func(ipptest.Sheet) { _ = p.Gone(true) })
		}, kiosk.PrintStopped, 3, "unreachable uncertain", 1, printing.Uncertain},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, ipptest.Config{PageTime: 30 * time.Millisecond})
			before := 0
			if !tt.fresh {
				before = used(t, p)
			}
			j := &memory{}
			cfg := quick(p, j)
			cfg.Gone = time.Minute
			s := spooler(t, cfg)
			tt.do(p)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			began := time.Now()
			err := s.Print(ctx, jobOf(pdf(3, 1000), tt.pages), func(now kiosk.PrintProgress) {
				if now.State == tt.when {
					cancel()
					began = time.Now()
				}
			})
			if got := describe(err); got != tt.want {
				t.Errorf("got %s (%v), want %s", got, err, tt.want)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("took %v", took)
			}
			if n := len(p.Documents()) - before; n != tt.docs {
				t.Errorf("%d documents came out, want %d", n, tt.docs)
			}
			if rows := j.all(); len(rows) != 1 || rows[0].State != tt.row {
				t.Errorf("journal %+v, want one row that is %s", rows, tt.row)
			}
		})
	}
}

func TestOneJobAtATime(t *testing.T) {
	p := start(t, ipptest.Config{})
	s := spooler(t, quick(p, &memory{}))
	errs := make(chan error)
	var seen progress
	for range 4 {
		go func() { errs <- s.Print(t.Context(), jobOf(pdf(2, 100), 2), seen.report) }()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if !seen.has(kiosk.PrintWaiting, "") {
		t.Error("nobody was told to wait")
	}
	if n := p.Requests("Create-Job"); n != 4 {
		t.Errorf("%d Create-Job for 4 jobs: they got in each other's way", n)
	}
	if len(p.Documents()) != 4 {
		t.Errorf("%d documents", len(p.Documents()))
	}
}

func TestFullDisk(t *testing.T) {
	for _, tt := range []struct {
		kind string
		want string
		docs int
	}{
		{"certificate", "other nothing_printed", 0},
		{"declaration", "done", 1},
		{"slip", "done", 1},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			p := start(t, ipptest.Config{})
			s := spooler(t, quick(p, &memory{full: true}))
			job := jobOf(pdf(1, 100), 1)
			job.Kind = tt.kind
			err := s.Print(t.Context(), job, func(kiosk.PrintProgress) {})
			if got := describe(err); got != tt.want {
				t.Errorf("got %s (%v), want %s", got, err, tt.want)
			}
			if len(p.Documents()) != tt.docs || tt.docs == 0 && p.Requests("Create-Job") > 0 {
				t.Errorf("%d documents, %d Create-Job", len(p.Documents()), p.Requests("Create-Job"))
			}
		})
	}
	t.Run("in the middle", func(t *testing.T) {
		for _, state := range []printing.State{printing.Creating, printing.Created, printing.Sending} {
			p := start(t, ipptest.Config{})
			j := &memory{}
			j.onRow = func(row printing.Row) {
				if row.State == state {
					j.full = true
				}
			}
			s := spooler(t, quick(p, j))
			err := s.Print(t.Context(), jobOf(pdf(1, 100), 1), func(kiosk.PrintProgress) {})
			if got := describe(err); got != "other nothing_printed" || p.Requests("Send-Document") != 0 {
				t.Errorf("%s: %s, %d documents sent", state, got, p.Requests("Send-Document"))
			}
			j.full, j.onRow = false, nil
			if err := s.Print(t.Context(), jobOf(pdf(1, 100), 1), func(kiosk.PrintProgress) {}); err != nil {
				t.Errorf("%s: the next print: %v", state, err)
			}
		}
	})
}

func TestWrongDocument(t *testing.T) {
	p := start(t, ipptest.Config{})
	s := spooler(t, quick(p, &memory{}))
	job := jobOf(pdf(1, 100), 1)
	job.PDF = pdf(1, 101)
	if got := describe(s.Print(t.Context(), job, func(kiosk.PrintProgress) {})); got != "other nothing_printed" {
		t.Errorf("got %s", got)
	}
	none := spooler(t, printing.Config{Journal: &memory{}, Log: quick(p, nil).Log, Now: time.Now})
	if got := describe(none.Print(t.Context(), jobOf(pdf(1, 1), 1), func(kiosk.PrintProgress) {})); got != "none nothing_printed" {
		t.Errorf("without a printer: %s", got)
	}
	if st := none.Status(); st.State != kiosk.PrinterNone || st.Trouble != kiosk.TroubleNoPrinter {
		t.Errorf("without a printer: %+v", st)
	}
}
