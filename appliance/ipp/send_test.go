package ipp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sportello.example/appliance/ipp"
)

// witness is a printer that does nothing but write down who asked what on which connection.
type witness struct {
	uuid   string
	close  bool // it closes the connection after every answer
	said   []string
	where  []string // remote address, of each
	bodies int      // bytes of documents
}

func (p *witness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	op := map[byte]string{0x0b: "Get-Printer-Attributes", 0x06: "Send-Document"}[body[3]]
	p.said, p.where = append(p.said, op), append(p.where, r.RemoteAddr)
	if at := bytes.Index(body, []byte("%PDF")); at >= 0 {
		p.bodies += len(body) - at
	}
	b := append(reply(body, 0), 4)
	if p.uuid != "" {
		b = attribute(b, 0x45, "printer-uuid", "urn:uuid:"+p.uuid)
	}
	if p.close {
		w.Header().Set("Connection", "close")
	}
	answers(w, append(b, 3))
}

func TestDocumentGoesWhereTheQuestionWent(t *testing.T) {
	const uuid = "0f2c8a2e-0000-4000-8000-000000000001"
	ask, send := "Get-Printer-Attributes", "Send-Document"
	for _, tt := range []struct {
		name  string
		at    witness
		want  error
		said  []string
		conns int
	}{
		{"the right one", witness{uuid: strings.ToUpper(uuid)}, nil, []string{ask, send}, 1},
		{"another one", witness{uuid: "0f2c8a2e-0000-4000-8000-000000000002"}, ipp.ErrIdentity, []string{ask}, 1},
		{"one that does not say", witness{}, ipp.ErrIdentity, []string{ask}, 1},
		{"one that closes", witness{uuid: uuid, close: true}, nil, []string{ask, send}, 2},
	} {
		for _, scheme := range []string{"ipp", "ipps"} {
			t.Run(tt.name+" over "+scheme, func(t *testing.T) {
				p := tt.at
				srv := httptest.NewUnstartedServer(&p)
				cfg := ipp.Config{UUID: uuid}
				if scheme == "ipps" {
					cert, pin := certificate(t, "ECDSA")
					srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
					srv.StartTLS()
					cfg.Pins = []string{pin}
				} else {
					srv.Start()
				}
				defer srv.Close()
				_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
				cfg.URI = scheme + "://printer.invalid:" + port + "/ipp/print"
				var dialled []string
				cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					dialled = append(dialled, address)
					return (&net.Dialer{}).DialContext(ctx, network, srv.Listener.Addr().String())
				}
				err := client(t, cfg).Send(t.Context(), 1, ipp.PDF, document)
				if !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				srv.Close() // from here on p is nobody else's
				if !slices.Equal(p.said, tt.said) {
					t.Errorf("it was asked %v, want %v", p.said, tt.said)
				}
				slices.Sort(p.where)
				if n := len(slices.Compact(p.where)); n != tt.conns {
					t.Errorf("on %d connections, want %d", n, tt.conns)
				}
				if want := map[bool]int{true: len(document)}[tt.want == nil]; p.bodies != want {
					t.Errorf("%d bytes of the document left, want %d", p.bodies, want)
				}
				want := []string{"printer.invalid:" + port, srv.Listener.Addr().String()}[:tt.conns]
				if !slices.Equal(dialled, want) {
					t.Errorf("connected to %v, want %v", dialled, want)
				}
			})
		}
	}
}

func TestKeyThatChangesBeforeTheDocument(t *testing.T) {
	first, pin := certificate(t, "ECDSA")
	second, _ := certificate(t, "ECDSA")
	const uuid = "0f2c8a2e-0000-4000-8000-000000000001"
	p := witness{uuid: uuid, close: true}
	srv := httptest.NewUnstartedServer(&p)
	var hellos atomic.Int32
	srv.Listener = tls.NewListener(srv.Listener, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if hellos.Add(1) == 1 {
			return &first, nil
		}
		return &second, nil
	}})
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Start()
	defer srv.Close()
	err := client(t, ipp.Config{URI: "ipps://" + srv.Listener.Addr().String() + "/", UUID: uuid, Pins: []string{pin}}).Send(t.Context(), 1, ipp.PDF, document)
	srv.Close()
	if n := hellos.Load(); !errors.Is(err, ipp.ErrKey) || n != 2 || p.bodies != 0 {
		t.Errorf("%v, after %d handshakes and %d bytes of the document", err, n, p.bodies)
	}
}

// TestEarlyAnswer is about a printer that refuses a document before it has read it, and reads no more.
func TestEarlyAnswer(t *testing.T) {
	addr := serve(t, func(c net.Conn) {
		b := make([]byte, 4096)
		n, err := c.Read(b)
		for err == nil && !bytes.Contains(b[:n], []byte("last-document")) {
			var more int
			more, err = c.Read(b[n:])
			n += more
		}
		_, request, _ := bytes.Cut(b[:n], []byte("\r\n\r\n"))
		answer := append(reply(request, 0x0507), 3)
		_, _ = fmt.Fprintf(c, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: application/ipp\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
		<-t.Context().Done()
	})
	err := client(t, ipp.Config{URI: "ipp://" + addr + "/"}).Send(t.Context(), 1, ipp.PDF, bytes.Repeat(document, 10_000))
	if !ipp.IsStatus(err, ipp.StatusBusy) {
		t.Errorf("got %v", err)
	}
}

func TestSentIsNeverTooLittle(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 300<<10)
	for _, n := range []int{0, 1, 1 << 10, 100 << 10, len(big)} {
		got := make(chan int, 1)
		addr := serve(t, func(c net.Conn) {
			var b bytes.Buffer
			for !bytes.Contains(b.Bytes(), []byte("last-document\x00\x01\x01\x03")) {
				if _, err := io.CopyN(&b, c, 1); err != nil {
					break
				}
			}
			m, _ := io.CopyN(io.Discard, c, int64(n))
			got <- int(m)
		})
		err := client(t, ipp.Config{URI: "ipp://" + addr + "/"}).Send(t.Context(), 1, ipp.PDF, big)
		var te *ipp.TransportError
		if !errors.As(err, &te) || te.Op != "Send-Document" {
			t.Fatalf("cut after %d: %v", n, err)
		}
		if m := <-got; te.Sent < m || te.Sent > len(big) {
			t.Errorf("%d bytes arrived, but %d are said to have left at most", m, te.Sent)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	err = client(t, ipp.Config{URI: "ipp://" + l.Addr().String() + "/"}).Send(t.Context(), 1, ipp.PDF, big)
	var te *ipp.TransportError
	if !errors.As(err, &te) || te.Sent != 0 {
		t.Errorf("nobody there: %v", err)
	}
}

// TestDocumentThatBreaksOff sees that a printer hears of a document that stops in the middle: not its end, not that of
// TLS, but that the connection is broken.
func TestDocumentThatBreaksOff(t *testing.T) {
	cert, pin := certificate(t, "ECDSA")
	for _, scheme := range []string{"ipp", "ipps"} {
		t.Run(scheme, func(t *testing.T) {
			ctx, cut := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			addr := serve(t, func(c net.Conn) {
				if scheme == "ipps" {
					c = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
				}
				_, err := io.CopyN(io.Discard, c, 64<<10)
				cut()
				if err == nil {
					_, err = io.Copy(io.Discard, c)
				}
				ended <- err
			})
			cfg := ipp.Config{URI: scheme + "://" + addr + "/"}
			if scheme == "ipps" {
				cfg.Pins = []string{pin}
			}
			err := client(t, cfg).Send(ctx, 1, ipp.PDF, bytes.Repeat([]byte("x"), 64<<20))
			if !errors.Is(err, context.Canceled) {
				t.Errorf("sent with %v", err)
			}
			if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the printer heard %v, want a reset", err)
			}
		})
	}
}

// TestSlowNetwork is about a way to the printer that never ends.
func TestSlowNetwork(t *testing.T) {
	cfg := ipp.Config{URI: "ipp://printer.invalid/", Timeout: time.Hour, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if _, ok := ctx.Deadline(); !ok {
			return nil, errors.New("without an end")
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := client(t, cfg).Send(ctx, 1, ipp.PDF, document); !errors.Is(err, ipp.ErrUnreachable) || ctx.Err() != nil {
		t.Errorf("got %v", err)
	}
}
