package ipp

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/OpenPrinting/goipp"
)

// ReadPrinter reads a captured answer to Get-Printer-Attributes.
func ReadPrinter(raw []byte) (Printer, error) {
	a, err := decode(raw)
	if err != nil {
		return Printer{}, err
	}
	return parsePrinter(a, "ipp://printer/"), nil
}

// ReadAll reads whatever an answer may hold.
func ReadAll(raw []byte) (Printer, []Job, []string, error) {
	a, err := decode(raw)
	if err != nil {
		return Printer{}, nil, nil, err
	}
	return parsePrinter(a, "ipp://printer/"), append(a.jobs(), parseJob(a.Job)), a.unsupported(), nil
}

// Capture returns the bytes of an answer to a request for all attributes.
func Capture(ctx context.Context, uri string, op uint16) ([]byte, error) {
	c, err := New(Config{URI: uri, User: "sportello"})
	if err != nil {
		return nil, err
	}
	m := c.request(goipp.Op(op))
	head, err := m.EncodeBytes()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url.String(), strings.NewReader(string(head)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", goipp.ContentType)
	resp, err := c.keep.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	return io.ReadAll(resp.Body)
}
