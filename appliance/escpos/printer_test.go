package escpos_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"sportello.example/appliance/escpos"
	"sportello.example/appliance/escpos/escpostest"
	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/kiosk"
)

// inMemory runs test in fake time with a printer that needs 50 ms for a line.
func inMemory(t *testing.T, test func(t *testing.T, p *escpostest.Printer, c *escpos.Printer, n *ipptest.Net)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var n ipptest.Net
		p := escpostest.New(escpostest.Config{
			Feed: 50 * time.Millisecond, Chinese: true,
			Listen: func() (net.Listener, error) { return n.Listen("receipts.test:9100") },
		})
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		test(t, p, &escpos.Printer{URI: "socket://receipts.test", Dial: n.Dial}, &n)
	})
}

func outcome(err error) string {
	if err == nil {
		return "done"
	}
	var pe *kiosk.PrintError
	if !errors.As(err, &pe) {
		return "not a PrintError: " + err.Error()
	}
	return string(pe.Trouble) + " " + string(pe.Outcome)
}

func TestPrint(t *testing.T) {
	later := func(do func()) { go func() { time.Sleep(10 * time.Second); do() }() }
	for _, tt := range []struct {
		name     string
		do       func(p *escpostest.Printer)
		want     string
		whole    bool // a slip came out
		troubles []kiosk.Trouble
		limit    time.Duration // 0: an hour
	}{
		{"nothing wrong", func(*escpostest.Printer) {}, "done", true, nil, 0},
		{"nearly out of paper", func(p *escpostest.Printer) { p.NearEnd(true) }, "done", true, nil, 0},
		{"out of paper", func(p *escpostest.Printer) { p.Paper(0) }, "paper nothing_printed", false, nil, 0},
		{"lid open", func(p *escpostest.Printer) { p.Cover(true) }, "cover nothing_printed", false, nil, 0},
		{"knife jammed", func(p *escpostest.Printer) { p.Failure(true) }, "other nothing_printed", false, nil, 0},
		{"gone", func(p *escpostest.Printer) { _ = p.Gone(true) }, "unreachable nothing_printed", false, nil, 0},
		{"never says how it is", func(p *escpostest.Printer) { p.Mute(true) }, "done", true, nil, 0},
		{"never says how it is, and has no paper", func(p *escpostest.Printer) { p.Mute(true); p.Paper(0) }, "done", false, nil, 0},
		{"says how it is and not where", func(p *escpostest.Printer) { p.WithoutGSr(true) }, "done", true, nil, 0},
		{"says more than it is asked", func(p *escpostest.Printer) { p.Automatic(true) }, "done", true, nil, 0},
		{"hangs up at once", func(p *escpostest.Printer) { p.CutAfter(0) }, "unreachable nothing_printed", false, nil, 0},
		{"hangs up halfway", func(p *escpostest.Printer) { p.CutAfter(1000) }, "unreachable uncertain", false, nil, 0},
		{
			"paper ends halfway, a new roll", func(p *escpostest.Printer) { p.Paper(20); later(func() { p.Paper(-1) }) }, "done", true,
			[]kiosk.Trouble{kiosk.TroublePaper, kiosk.TroubleNone},
			0,
		},
		{
			"paper ends halfway, no new roll", func(p *escpostest.Printer) { p.Paper(20) }, "paper uncertain", false,
			[]kiosk.Trouble{kiosk.TroublePaper},
			0,
		},
		{
			"given up while it waits for paper", func(p *escpostest.Printer) { p.Paper(20) }, "paper uncertain", false,
			[]kiosk.Trouble{kiosk.TroublePaper},
			30 * time.Second,
		},
		{"lid opened halfway and cable pulled", func(p *escpostest.Printer) {
			p.Paper(20)
			later(func() { _ = p.Gone(true) })
		}, "unreachable uncertain", false, []kiosk.Trouble{kiosk.TroublePaper}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, p *escpostest.Printer, c *escpos.Printer, _ *ipptest.Net) {
				var troubles []kiosk.Trouble
				c.Trouble = func(tr kiosk.Trouble) { troubles = append(troubles, tr) }
				tt.do(p)
				limit := tt.limit
				if limit == 0 {
					limit = time.Hour
				}
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				if got := outcome(c.Print(ctx, slip(t, "en"))); got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
				synctest.Wait()
				time.Sleep(time.Minute)
				slips := p.Slips()
				if whole := len(slips) == 1 && slices.ContainsFunc(slips[0].Lines, func(l escpostest.Line) bool {
					return strings.HasPrefix(l.Text, "Sede: Città Studi")
				}); whole != tt.whole {
					t.Errorf("came out whole: %v, %+v and %+v", whole, slips, p.Rest())
				}
				if !slices.Equal(troubles, tt.troubles) {
					t.Errorf("told of %q, want %q", troubles, tt.troubles)
				}
			})
		})
	}
}

func TestPrintWaitsForThePaper(t *testing.T) {
	inMemory(t, func(t *testing.T, p *escpostest.Printer, c *escpos.Printer, _ *ipptest.Net) {
		began := time.Now()
		if err := c.Print(t.Context(), slip(t, "en")); err != nil {
			t.Fatal(err)
		}
		lines := time.Duration(len(p.Slips()[0].Lines))
		if took := time.Since(began); took < lines*50*time.Millisecond {
			t.Errorf("%d lines of 50 ms came out in %v", lines, took)
		}
	})
}

func TestSomebodyElseAsksAtTheSameTime(t *testing.T) {
	inMemory(t, func(t *testing.T, p *escpostest.Printer, c *escpos.Printer, n *ipptest.Net) {
		somebody, err := n.Dial(t.Context(), "tcp", "receipts.test:9100")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		p.Cover(true)
		go func() {
			time.Sleep(2 * time.Second)
			_ = somebody.Close()
		}()
		if got := outcome(c.Print(t.Context(), slip(t, "it"))); got != "cover nothing_printed" {
			t.Error(got)
		}
	})
}

func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(p *escpostest.Printer)
		want kiosk.Trouble
	}{
		{"well", func(*escpostest.Printer) {}, kiosk.TroubleNone},
		{"nearly out of paper", func(p *escpostest.Printer) { p.NearEnd(true) }, kiosk.TroubleNone},
		{"out of paper", func(p *escpostest.Printer) { p.Paper(0) }, kiosk.TroublePaper},
		{"lid open, out of paper", func(p *escpostest.Printer) { p.Cover(true); p.Paper(0) }, kiosk.TroubleCover},
		{"knife jammed", func(p *escpostest.Printer) { p.Failure(true) }, kiosk.TroubleOther},
		{"says nothing", func(p *escpostest.Printer) { p.Mute(true); p.Paper(0) }, kiosk.TroubleNone},
		{"says too much", func(p *escpostest.Printer) { p.Automatic(true); p.Cover(true) }, kiosk.TroubleCover},
		{"gone", func(p *escpostest.Printer) { _ = p.Gone(true) }, kiosk.TroubleUnreachable},
		{"hangs up", func(p *escpostest.Printer) { p.CutAfter(1) }, kiosk.TroubleUnreachable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, p *escpostest.Printer, c *escpos.Printer, _ *ipptest.Net) {
				tt.do(p)
				got, err := c.Status(t.Context())
				if got != tt.want || (err != nil) != (got == kiosk.TroubleUnreachable) || err != nil && !errors.Is(err, escpos.ErrUnreachable) {
					t.Errorf("%q, %v, want %q", got, err, tt.want)
				}
			})
		})
	}
}

func TestCheck(t *testing.T) {
	for uri, ok := range map[string]bool{
		"socket://192.0.2.7:9100": true, "socket://192.0.2.7": true, "socket://[fd00::1]:9100/": true, "file:///dev/usb/lp0": true,
		"file:///dev/lp12": true, "": false, "socket://": false, "ipp://192.0.2.7/": false, "socket://u:p@192.0.2.7": false,
		"socket://192.0.2.7/x": false, "socket://192.0.2.7:x": false, "file:///etc/passwd": false, "file:///dev/sda": false,
		"file:///dev/usb/lp0/../../sda": false, "file://host/dev/usb/lp0": false, "file:///dev/usb/lp0?x": false,
	} {
		if err := escpos.Check(uri); (err == nil) != ok || err != nil && !errors.Is(err, escpos.ErrAddress) {
			t.Errorf("%q: %v", uri, err)
		}
	}
}

// TestOverTCP prints over the real network, also on a printer that says nothing: then closing the connection must lose
// no byte.
func TestOverTCP(t *testing.T) {
	for _, mute := range []bool{false, true} {
		p := escpostest.New(escpostest.Config{})
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		p.Mute(mute)
		if err := (escpos.Printer{URI: p.URI()}).Print(t.Context(), slip(t, "en")); err != nil {
			t.Errorf("mute %v: %v", mute, err)
		}
		eventually(t, func() bool { return len(p.Slips()) == 1 })
	}
}

func eventually(t *testing.T, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not happen")
		}
	}
}

// TestDevice prints on a terminal, the character device that anybody may make: a simulated printer is behind it.
func TestDevice(t *testing.T) {
	p := escpostest.New(escpostest.Config{})
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	master, name := terminal(t)
	wire, err := net.Dial("tcp", strings.TrimPrefix(p.URI(), "socket://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = wire.Close() }()
	go func() { _, _ = io.Copy(wire, master) }()
	go func() { _, _ = io.Copy(master, wire) }()

	open := func(context.Context) (io.ReadWriteCloser, error) { return escpos.OpenDevice(name) }
	if got, err := escpos.StatusOn(t.Context(), open); got != kiosk.TroubleNone || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	p.Cover(true)
	if got, err := escpos.StatusOn(t.Context(), open); got != kiosk.TroubleCover || err != nil {
		t.Errorf("lid open: %q, %v", got, err)
	}
	p.Cover(false)
	if err := escpos.PrintOn(t.Context(), open, slip(t, "it")); err != nil {
		t.Error(err)
	}
	eventually(t, func() bool { return len(p.Slips()) == 1 })

	file := filepath.Join(t.TempDir(), "lp0")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := escpos.OpenDevice(file); !errors.Is(err, escpos.ErrUnreachable) {
		t.Errorf("a file: %v", err)
	}
	if _, err := escpos.OpenDevice(file + "1"); !errors.Is(err, escpos.ErrUnreachable) {
		t.Errorf("nothing: %v", err)
	}
}

// terminal makes a terminal that passes all bytes on as they are, and returns its other end and its name.
func terminal(t *testing.T) (*os.File, string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	var number int
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var ferr error
	if err := raw.Control(func(fd uintptr) {
		if ferr = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); ferr != nil {
			return
		}
		if number, ferr = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); ferr != nil {
			return
		}
		plain := unix.Termios{Cflag: unix.CS8 | unix.CREAD}
		plain.Cc[unix.VMIN] = 1
		ferr = unix.IoctlSetTermios(int(fd), unix.TCSETS, &plain)
	}); err != nil || ferr != nil {
		t.Fatal(err, ferr)
	}
	name := "/dev/pts/" + strconv.Itoa(number)
	// One end that stays open, so that the terminal lives on between two who open it.
	keep, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keep.Close() })
	return master, name
}
