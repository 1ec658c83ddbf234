package ipp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"

	"sportello.example/appliance/ipp"
)

// maker is a witness that makes jobs.
type maker struct {
	witness
	another bool // once it has made a job it is another printer
}

func (p *maker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if body[3] != 0x05 {
		r.Body = io.NopCloser(bytes.NewReader(body))
		p.witness.ServeHTTP(w, r)
		return
	}
	p.said, p.where = append(p.said, "Create-Job"), append(p.where, r.RemoteAddr)
	b := append(reply(body, 0), 2)
	answers(w, append(attribute(b, 0x21, "job-id", "\x00\x00\x00\x07"), 3))
	if p.another {
		p.uuid = "0f2c8a2e-0000-4000-8000-000000000002"
	}
}

// TestOneConnectionForAJob sees that job, question and document go on one connection, and that one that has died between
// costs nothing but another.
func TestOneConnectionForAJob(t *testing.T) {
	const uuid = "0f2c8a2e-0000-4000-8000-000000000001"
	create, ask, send := "Create-Job", "Get-Printer-Attributes", "Send-Document"
	for _, tt := range []struct {
		name    string
		prepare bool
		hangUp  bool // the printer ends the connection after the job is made
		another bool
		want    error
		said    []string
		conns   int
	}{
		{"made by Create", false, false, false, nil, []string{create, ask, send}, 1},
		{"prepared", true, false, false, nil, []string{create, ask, send}, 1},
		{"ended meanwhile", true, true, false, nil, []string{create, ask, send}, 2},
		{"another printer answers meanwhile", true, false, true, ipp.ErrIdentity, []string{create, ask}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &maker{witness: witness{uuid: uuid}, another: tt.another}
			srv := httptest.NewUnstartedServer(p)
			cert, pin := certificate(t, "ECDSA")
			srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
			srv.StartTLS()
			defer srv.Close()
			var dialled atomic.Int32
			c := client(t, ipp.Config{
				URI: ippURI(srv.URL), UUID: uuid, Pins: []string{pin},
				Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
					dialled.Add(1)
					return new(net.Dialer).DialContext(ctx, network, address)
				},
			})
			defer c.Close()
			if tt.prepare {
				c.Prepare(t.Context())
				c.Prepare(t.Context()) // there is one already
			}
			job, _, err := c.Create(t.Context(), ipp.Ticket{Name: "x", Format: ipp.PDF})
			if err != nil || job.ID != 7 {
				t.Fatalf("job %+v: %v", job, err)
			}
			if tt.hangUp {
				srv.CloseClientConnections()
			}
			if err := c.Send(t.Context(), job.ID, ipp.PDF, document); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			srv.Close() // from here on p is nobody else's
			if !slices.Equal(p.said, tt.said) {
				t.Errorf("it was asked %v, want %v", p.said, tt.said)
			}
			slices.Sort(p.where)
			if n := len(slices.Compact(p.where)); n != tt.conns || int(dialled.Load()) != tt.conns {
				t.Errorf("on %d connections of %d, want %d", n, dialled.Load(), tt.conns)
			}
			if want := map[bool]int{true: len(document)}[tt.want == nil]; p.bodies != want {
				t.Errorf("%d bytes of the document left, want %d", p.bodies, want)
			}
		})
	}
}
