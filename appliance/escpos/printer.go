package escpos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"regexp"
	"time"

	"sportello.example/kiosk"
)

const (
	defaultPort = "9100"
	dialTimeout = 3 * time.Second
	// stall is how long it may take no byte. A slip is smaller than the buffer of any such printer.
	stall = 15 * time.Second
	// linger is how long a printer that says nothing may take to close the connection after us.
	linger = time.Second
)

// ErrUnreachable means that the printer does not answer.
var ErrUnreachable = errors.New("receipt printer does not answer")

// ErrAddress means that a URI is none of a receipt printer's.
var ErrAddress = errors.New("want socket://host:9100 or file:///dev/usb/lp0")

// errHand is why a printer is given up that says what it needs.
var errHand = errors.New("it needs a hand")

// Printer is a receipt printer: "socket://host:9100", or "file:///dev/usb/lp0". It takes one connection at a time.
//
// Cheap ones never say how they are. Of those it is known that they took the bytes, and no more: for a slip that is as
// good as printed, because who has got none asks for another.
type Printer struct {
	URI string
	// Trouble is told what the printer is waiting for in the middle of a slip, TroubleNone when it goes on; nil: nobody is.
	Trouble func(kiosk.Trouble)
	// Sent is told that the printer has taken the whole slip, which may take longer to come out; nil: nobody is.
	Sent func()
	// Dial makes connections instead of the network, for simulated printers; nil means the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// devices are the files that may be printers. A URI is typed by a person, and the box may be root.
var devices = regexp.MustCompile(`^/dev/(usb/)?lp[0-9]{1,2}$`)

// Check says whether uri is a receipt printer's: ErrAddress. It connects to nobody.
func Check(uri string) error {
	_, _, err := parse(uri)
	return err
}

// parse returns the network and the address of a printer; the network of a device file is "".
func parse(uri string) (network, address string, err error) {
	u, err := url.Parse(uri)
	switch {
	case err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "":
	case u.Scheme == "socket" && u.Hostname() != "" && (u.Path == "" || u.Path == "/"):
		port := u.Port()
		if port == "" {
			port = defaultPort
		}
		return "tcp", net.JoinHostPort(u.Hostname(), port), nil
	case u.Scheme == "file" && u.Host == "" && devices.MatchString(u.Path):
		return "", u.Path, nil
	}
	return "", "", fmt.Errorf("receipt printer %.80q: %w", uri, ErrAddress)
}

// open connects to the printer. Its errors are ErrAddress or ErrUnreachable.
func (p Printer) open(ctx context.Context) (io.ReadWriteCloser, error) {
	network, address, err := parse(p.URI)
	if err != nil {
		return nil, err
	}
	if network == "" {
		return openDevice(address)
	}
	dial := p.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := dial(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return c, nil
}

// openDevice opens a device file, for writing only where it cannot be read.
func openDevice(name string) (io.ReadWriteCloser, error) {
	for _, flag := range []int{os.O_RDWR, os.O_WRONLY} {
		f, err := os.OpenFile(name, flag, 0)
		if err != nil {
			if flag == os.O_RDWR && !errors.Is(err, os.ErrNotExist) {
				continue
			}
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
			_ = f.Close()
			return nil, fmt.Errorf("%w: %s is no device", ErrUnreachable, name)
		}
		return f, nil
	}
	return nil, ErrUnreachable // not reached: the last flag returns
}

// Status asks how the printer is: TroubleNone, TroublePaper, TroubleCover, TroubleOther, or TroubleUnreachable. A printer
// that takes the connection and says nothing of itself is TroubleNone. Its error says more, for the log. It takes as long
// as the printer lets it, a second and a half at least with one that says nothing.
func (p Printer) Status(ctx context.Context) (kiosk.Trouble, error) {
	return statusOn(ctx, p.open)
}

// opener connects to a printer. Its errors are ErrAddress or ErrUnreachable.
type opener func(ctx context.Context) (io.ReadWriteCloser, error)

func statusOn(ctx context.Context, open opener) (kiosk.Trouble, error) {
	l, err := open(ctx)
	if err != nil {
		return kiosk.TroubleUnreachable, err
	}
	c := converse(l, mute)
	defer c.end()
	t, err := c.ask(ctx)
	if errors.Is(err, errMute) {
		return kiosk.TroubleNone, nil
	}
	return t, err
}

// Print sends what Slip or Adoption made and waits until the printer says that it has printed it and is well, or, of a
// printer that says nothing, until it has taken it. Its error is a *kiosk.PrintError. A printer that needs a hand before
// it has got a byte is one with NothingPrinted; one that does afterwards is waited for, see Trouble, for two minutes.
// When ctx ends in the middle, what the printer has got comes out nevertheless. Trouble and Sent are called from the
// caller's goroutine.
func (p Printer) Print(ctx context.Context, b []byte) error {
	return p.printOn(ctx, p.open, b)
}

func (p Printer) printOn(ctx context.Context, open opener, b []byte) error {
	l, err := open(ctx)
	if err != nil {
		return failed(kiosk.TroubleUnreachable, kiosk.NothingPrinted, err)
	}
	c := converse(l, patience)
	defer c.end()
	t, err := c.ask(ctx)
	says := !errors.Is(err, errMute)
	switch {
	case says && err != nil:
		return failed(t, kiosk.NothingPrinted, err)
	case t != kiosk.TroubleNone:
		return failed(t, kiosk.NothingPrinted, errHand)
	case ctx.Err() != nil:
		return failed(kiosk.TroubleNone, kiosk.NothingPrinted, ctx.Err())
	}
	if n, err := c.write(ctx, b); err != nil {
		outcome := kiosk.Uncertain
		if n == 0 {
			outcome = kiosk.NothingPrinted
		}
		return failed(kiosk.TroubleUnreachable, outcome, err)
	}
	if p.Sent != nil {
		p.Sent()
	}
	if !says {
		c.hangUp(ctx)
		return nil
	}
	return c.follow(ctx, p.Trouble)
}

func failed(t kiosk.Trouble, o kiosk.PrintOutcome, err error) error {
	return &kiosk.PrintError{Trouble: t, Outcome: o, Err: fmt.Errorf("receipt printer: %w", err)}
}
