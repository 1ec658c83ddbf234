package escpos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"sportello.example/kiosk"
)

const (
	// mute is how long a printer may take to say how it is. It does so at once, whatever it prints, or it never does.
	mute = 1500 * time.Millisecond
	// patience is how long it may take when it is to print: it answers nobody while it hears somebody else, who may be
	// asking how it is.
	patience = 3500 * time.Millisecond
	// look is how often it is asked while it prints.
	look = 500 * time.Millisecond
	// settle is how long it has to be well to be believed when it does not say that it has come to the end: many do not know
	// that question.
	settle = 4 * time.Second
	// hand is how long a printer that needs a hand in the middle of a slip is waited for.
	hand = 2 * time.Minute
	// deaf is how many questions in a row it may leave without an answer.
	deaf = 3
)

// errMute means that the printer does not say how it is.
var errMute = errors.New("it does not say how it is")

// conversation is a connection on which the printer also speaks.
type conversation struct {
	l       io.ReadWriteCloser
	said    chan byte     // what the printer says
	silent  chan struct{} // closed when it will say nothing more
	quit    chan struct{} // closed when nobody listens any more
	first   time.Duration // how long its first answer may take
	printed bool          // it has said that it has come to the end
}

func converse(l io.ReadWriteCloser, first time.Duration) *conversation {
	c := &conversation{l: l, first: first, said: make(chan byte), silent: make(chan struct{}), quit: make(chan struct{})}
	if d, ok := l.(interface{ SetReadDeadline(t time.Time) error }); !ok || d.SetReadDeadline(time.Time{}) != nil {
		close(c.silent) // a device whose reading could not be ended
		return c
	}
	go c.listen()
	return c
}

func (c *conversation) end() {
	close(c.quit)
	_ = c.l.Close()
	<-c.silent
}

// listen passes on what the printer says, until the connection ends. Of the automatic status, which some send unasked, the
// three bytes behind the first could be taken for answers: they are left out.
func (c *conversation) listen() {
	defer close(c.silent)
	buf := make([]byte, 64)
	skip := 0
	for {
		n, err := c.l.Read(buf)
		for _, b := range buf[:n] {
			switch {
			case skip > 0:
				skip--
				continue
			case b&0x93 == 0x10:
				skip = 3
				continue
			}
			select {
			case c.said <- b:
			case <-c.quit:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// write sends b. When ctx ends or the printer takes no byte for too long the connection is closed.
func (c *conversation) write(ctx context.Context, b []byte) (int, error) {
	closing := func() { _ = c.l.Close() }
	defer context.AfterFunc(ctx, closing)()
	t := time.AfterFunc(stall, closing)
	defer t.Stop()
	n, err := c.l.Write(b)
	switch {
	case ctx.Err() != nil:
		return n, fmt.Errorf("%w after %d of %d bytes", ctx.Err(), n, len(b))
	case err != nil:
		return n, fmt.Errorf("%w: %d of %d bytes taken: %w", ErrUnreachable, n, len(b), err)
	}
	return n, nil
}

// hangUp ends the connection so that all that was sent arrives: closing it while the printer still sends would not.
func (c *conversation) hangUp(ctx context.Context) {
	half, ok := c.l.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	t := time.NewTimer(linger)
	defer t.Stop()
	for {
		select {
		case <-c.said:
		case <-c.silent:
			return
		case <-t.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// question asks DLE EOT n and returns the answer. Its error is errMute, ErrUnreachable or ctx's.
func (c *conversation) question(ctx context.Context, n byte) (byte, error) {
	if _, err := c.write(ctx, []byte{0x10, 0x04, n}); err != nil {
		return 0, err
	}
	t := time.NewTimer(c.first)
	defer t.Stop()
	for {
		select {
		case b := <-c.said:
			if b&0x93 == 0x12 {
				c.first = mute
				return b, nil
			}
			c.hear(b)
		case <-c.silent:
			if _, network := c.l.(net.Conn); network {
				return 0, fmt.Errorf("%w: it hung up", ErrUnreachable)
			}
			return 0, errMute
		case <-t.C:
			return 0, errMute
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// hear notes the answer to GS r. XON and XOFF are none.
func (c *conversation) hear(b byte) { c.printed = c.printed || b&0x90 == 0 }

// ask asks how the printer is, by the four questions it answers at any time. A printer that does not know all of them is
// judged by the others. One that is off line and does not say why is asked twice: it may have changed between two questions.
func (c *conversation) ask(ctx context.Context) (kiosk.Trouble, error) {
	for last := false; ; last = true {
		s, err := c.status(ctx)
		switch {
		case err != nil && ctx.Err() == nil && !errors.Is(err, errMute):
			return kiosk.TroubleUnreachable, err
		case err != nil:
			return kiosk.TroubleNone, err
		case s[2]&0x04 != 0:
			return kiosk.TroubleCover, nil
		case s[2]&0x20 != 0, s[4]&0x60 != 0:
			return kiosk.TroublePaper, nil
		case s[2]&0x40 != 0, s[3]&0x68 != 0: // an error, or the cutter
			return kiosk.TroubleOther, nil
		case s[1]&0x08 == 0:
			return kiosk.TroubleNone, nil
		case last:
			return kiosk.TroubleOther, nil
		}
	}
}

// status returns the answers to DLE EOT 1 to 4, by their numbers; 0 where there is none.
func (c *conversation) status(ctx context.Context) (s [5]byte, err error) {
	for n := byte(1); n <= 4; n++ {
		b, err := c.question(ctx, n)
		if err != nil && (n == 1 || !errors.Is(err, errMute)) {
			return s, err
		}
		s[n] = b
	}
	return s, nil
}

// follow waits until the printer has printed all it was sent: it answers GS r when it has come to it.
func (c *conversation) follow(ctx context.Context, tell func(kiosk.Trouble)) error {
	if _, err := c.write(ctx, []byte{0x1d, 'r', 1}); err != nil {
		return failed(kiosk.TroubleUnreachable, kiosk.Uncertain, err)
	}
	tick, limit := time.NewTicker(look), time.NewTimer(hand)
	defer tick.Stop()
	defer limit.Stop()
	trouble := kiosk.TroubleNone
	well, unheard := time.Duration(0), 0
	for !c.printed {
		select {
		case b := <-c.said:
			c.hear(b)
			continue
		case <-c.silent:
			return failed(kiosk.TroubleUnreachable, kiosk.Uncertain, fmt.Errorf("%w: it hung up", ErrUnreachable))
		case <-ctx.Done():
			return failed(trouble, kiosk.Uncertain, ctx.Err())
		case <-limit.C:
			return failed(trouble, kiosk.Uncertain, errHand)
		case <-tick.C:
		}
		t, err := c.ask(ctx)
		switch {
		case c.printed:
			return nil
		case errors.Is(err, errMute):
			if unheard++; unheard == deaf {
				return failed(kiosk.TroubleUnreachable, kiosk.Uncertain, fmt.Errorf("%w: %w", ErrUnreachable, err))
			}
			continue
		case ctx.Err() != nil:
			return failed(trouble, kiosk.Uncertain, ctx.Err())
		case err != nil:
			return failed(t, kiosk.Uncertain, err)
		}
		unheard = 0
		if t != trouble {
			trouble, well = t, 0
			if tell != nil {
				tell(t)
			}
		}
		if trouble == kiosk.TroubleNone {
			if well += look; well >= settle {
				return nil
			}
		}
	}
	return nil
}
