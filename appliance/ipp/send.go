package ipp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
)

// Send gives the job its only document (Send-Document, RFC 8011 §4.3.1). It blocks for as long as the printer takes to
// read it. After a *TransportError with Sent > 0, ErrAnswer or ErrAuth the printer may print what it got, even half a
// document, and call the job completed.
//
// It uses the connection on which the job was made a moment before, or makes one. There the printer's key is checked and,
// with Config.UUID, the printer is asked who it is; the document goes on that same connection, in one piece and once. A printer that closes its connection after
// every answer can never be asked so: then the document goes on a second connection to the same IP address, where its
// key is checked again. Without keys that is as good as asking again: what answers at that address is believed anyway.
func (c *Client) Send(ctx context.Context, id int, format string, document []byte) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	l, err := c.proven(ctx)
	if err != nil {
		if errors.Is(err, ErrKey) || errors.Is(err, ErrIdentity) || errors.Is(err, ErrAuth) {
			return fmt.Errorf("%v: %w", opSendDocument, err)
		}
		return &TransportError{Op: opSendDocument.String(), Err: err}
	}
	defer l.close()
	m := c.request(opSendDocument)
	m.integer("job-id", id)
	m.user(c.cfg.User)
	m.mime("document-format", format)
	m.boolean("last-document", true)
	head, err := m.EncodeBytes()
	if err != nil {
		return fmt.Errorf("%v: encode: %w", m.op, err)
	}
	var sent atomic.Int64
	raw, err := l.post(ctx, head, document, true, &sent)
	if err != nil {
		return m.failed(err, sent.Load())
	}
	_, err = m.read(raw)
	return err
}

// proven returns a connection to the printer whose keys and UUID the configuration names.
func (c *Client) proven(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	if l := c.takeSpare(ctx); l != nil {
		if c.cfg.UUID == "" {
			l.close() // it may have died, and no question shows that
		} else if l, err := c.prove(ctx, l); err == nil || errors.Is(err, ErrIdentity) || errors.Is(err, ErrAuth) || ctx.Err() != nil {
			return l, err
		}
	}
	l, err := c.open(ctx, c.address)
	if err != nil || c.cfg.UUID == "" {
		return l, err
	}
	return c.prove(ctx, l)
}

// prove asks on a connection who the printer is. It returns the connection for the document, or closes it.
func (c *Client) prove(ctx context.Context, l *link) (*link, error) {
	address := c.address
	if a, ok := l.conn.RemoteAddr().(*net.TCPAddr); ok {
		address = a.String() // a name might lead elsewhere the next time
	}
	reopen := func() error {
		if !l.open {
			l.close()
			again, err := c.open(ctx, address)
			if err != nil {
				return err
			}
			l = again
		}
		return nil
	}
	m := c.request(opGetPrinterAttributes)
	m.keywords("requested-attributes", "printer-uuid")
	a, err := c.exchange(ctx, m, func(ctx context.Context, head []byte) ([]byte, error) {
		if err := reopen(); err != nil {
			return nil, err
		}
		return l.post(ctx, head, nil, false, nil)
	})
	if err == nil {
		if got := uuid(first(a.Printer, "printer-uuid", maxKeyword)); got != c.cfg.UUID {
			err = fmt.Errorf("%w: %q, want %q", ErrIdentity, got, c.cfg.UUID)
		}
	}
	if err == nil {
		err = reopen()
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}
