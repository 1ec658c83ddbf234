package printing_test

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/appliance/printing"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// tooLate is longer than the answer to a Create-Job is waited for.
const tooLate = 6 * time.Second

// slowpoke is a connection on which the first few Create-Job are lost, and the last of them arrives too late, also when
// whoever said it has hung up.
type slowpoke struct {
	net.Conn
	late *atomic.Int32 // how many have to come
	held atomic.Bool
}

func (c *slowpoke) Write(b []byte) (int, error) {
	// IPP version 2.0 and the operation, behind the head of HTTP (RFC 8010 §3.1.1).
	if !bytes.Contains(b, []byte("\r\n\r\n\x02\x00\x00\x05")) {
		return c.Conn.Write(b)
	}
	left := c.late.Add(-1)
	if left < 0 {
		return c.Conn.Write(b)
	}
	c.held.Store(true)
	kept := bytes.Clone(b)
	go func() {
		time.Sleep(tooLate)
		if left == 0 {
			_ = c.SetDeadline(time.Time{})
			_, _ = c.Conn.Write(kept)
			time.Sleep(time.Second) // for the printer to read it
		}
		_ = c.Conn.Close()
	}()
	return len(b), nil
}

func (c *slowpoke) Close() error {
	if c.held.Load() {
		return nil
	}
	return c.Conn.Close()
}

// TestLateJob has a printer make a job after it has said that there is none. Without a document that job would keep
// everybody from the printer.
func TestLateJob(t *testing.T) {
	for _, tt := range []struct {
		name   string
		late   int32 // see slowpoke
		leaves bool  // the visit ends meanwhile
	}{
		{"after the visit", 1, true},
		{"after the last try", 3, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n ipptest.Net
				p := start(t, ipptest.Config{Listen: listen(&n, "127.0.0.1:631")})
				var late atomic.Int32
				late.Store(tt.late)
				j := &memory{}
				cfg := quick(p, j)
				cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					c, err := n.Dial(ctx, network, address)
					if err != nil {
						return nil, err
					}
					return &slowpoke{Conn: c, late: &late}, nil
				}
				s := spooler(t, cfg)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- s.Run(ctx) }()

				visit, leave := context.WithCancel(ctx)
				defer leave()
				if tt.leaves {
					time.AfterFunc(time.Second, leave)
				}
				err := s.Print(visit, jobOf(pdf(1, 100), 1), func(kiosk.PrintProgress) {})
				if got := describe(err); got != "unreachable nothing_printed" {
					t.Errorf("ended with %s (%v)", got, err)
				}
				if n := p.Requests("Create-Job"); n != 0 {
					t.Errorf("%d Create-Job have arrived, want it late", n)
				}
				time.Sleep(time.Minute)
				if n := p.Requests("Create-Job"); n == 0 {
					t.Error("no Create-Job has arrived")
				}
				if open, err := j.OpenPrints(ctx); err != nil || len(open) != 0 {
					t.Errorf("open rows %+v, %v", open, err)
				}
				next := pdf(1, 10)
				if err := s.Print(ctx, jobOf(next, 1), func(kiosk.PrintProgress) {}); err != nil {
					t.Errorf("the next print: %v", err)
				}
				if docs := p.Documents(); len(docs) != 1 || !bytes.Equal(docs[0], next) {
					t.Errorf("%d documents came out", len(docs))
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestSheetAlarmAfterRestart has the box start again while a sheet may still come out of a printer that says nothing:
// staff are told before it has been asked in vain.
func TestSheetAlarmAfterRestart(t *testing.T) {
	for _, row := range []printing.Row{
		{ID: "a", State: printing.Sending},
		{ID: "b", State: printing.Printing},
		{ID: "c", State: printing.Uncertain, Pursue: true},
		{ID: "d", State: printing.Created},
		{ID: "e", State: printing.Uncertain},
	} {
		t.Run(string(row.State)+" "+row.ID, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n ipptest.Net
				n.Silence("127.0.0.1:631", true)
				p := start(t, ipptest.Config{Listen: listen(&n, "127.0.0.1:631")})
				row := row
				row.PrinterUUID = p.UUID()
				var b bell
				cfg := quick(p, &memory{rows: []printing.Row{row}})
				cfg.Dial = n.Dial
				b.use(&cfg)
				s := spooler(t, cfg)
				run(t, s)
				synctest.Wait() // it waits for the printer now
				want := row.Pursue || row.State == printing.Sending || row.State == printing.Printing
				if got := b.has(staff.AlarmSheet); got != want {
					t.Errorf("alarm %v, want %v: %+v", got, want, b.List())
				}
				if blocked := device(t, s).Blocked != ""; blocked != want {
					t.Errorf("blocked %v, want %v", blocked, want)
				}
				time.Sleep(5 * time.Second) // for net/http, which dials on
			})
		})
	}
}
