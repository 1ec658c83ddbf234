package ipp_test

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"sportello.example/appliance/ipp"
)

// recorder is a TLS server that counts what it is told after the handshake, and answers nothing.
type recorder struct {
	mu       sync.Mutex
	told     int
	resumed  int
	accepted int
}

func (r *recorder) serve(t *testing.T, cfg *tls.Config) string {
	return serve(t, func(c net.Conn) {
		secure := tls.Server(c, cfg)
		n, _ := io.Copy(io.Discard, secure)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.accepted++
		r.told += int(n)
		if secure.ConnectionState().DidResume {
			r.resumed++
		}
	})
}

func TestNotAByteToAnotherKey(t *testing.T) {
	right, pin := certificate(t, "ECDSA")
	wrong, _ := certificate(t, "RSA")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			var mu sync.Mutex
			cert := &right
			cfg := &tls.Config{MinVersion: version, MaxVersion: version, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				mu.Lock()
				defer mu.Unlock()
				return cert, nil
			}}
			// First the right one answers, with session tickets that the wrong one could take over.
			good := witness{}
			srv := httptest.NewUnstartedServer(&good)
			srv.Listener = tls.NewListener(srv.Listener, cfg)
			srv.Config.ErrorLog = log.New(io.Discard, "", 0)
			srv.Start()
			defer srv.Close()
			c := client(t, ipp.Config{URI: "ipps://" + srv.Listener.Addr().String() + "/", Pins: []string{strings.Repeat("0", 64), pin}})
			for range 2 {
				if err := c.Send(t.Context(), 1, ipp.PDF, document); err != nil {
					t.Fatal(err)
				}
			}
			mu.Lock()
			cert = &wrong
			mu.Unlock()
			if err := c.Send(t.Context(), 1, ipp.PDF, document); !errors.Is(err, ipp.ErrKey) {
				t.Errorf("the key has changed: %v", err)
			}
			r := recorder{}
			addr := r.serve(t, cfg)
			every(t, client(t, ipp.Config{URI: "ipps://" + addr + "/", Pins: []string{pin}, UUID: "x"}), func(op string, err error) {
				if !errors.Is(err, ipp.ErrKey) || errors.Is(err, ipp.ErrUnreachable) {
					t.Errorf("%s: got %v, want %v", op, err, ipp.ErrKey)
				}
			})
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.told != 0 || r.resumed != 0 {
				t.Errorf("it was told %d bytes, and %d of %d sessions were resumed", r.told, r.resumed, r.accepted)
			}
		})
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	cert, pin := certificate(t, "ECDSA")
	r := recorder{}
	addr := r.serve(t, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, Certificates: []tls.Certificate{cert}})
	_, err := client(t, ipp.Config{URI: "ipps://" + addr + "/", Pins: []string{pin}}).Printer(t.Context())
	if !errors.Is(err, ipp.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
}

func TestKeys(t *testing.T) {
	ec, ecPin := certificate(t, "ECDSA")
	rs, rsPin := certificate(t, "RSA")
	both := []string{ecPin, rsPin}
	slices.Sort(both)
	for _, tt := range []struct {
		name string
		cfg  *tls.Config
		want []string
	}{
		{"two keys", &tls.Config{Certificates: []tls.Certificate{ec, rs}}, both},
		{"two keys, RSA first", &tls.Config{Certificates: []tls.Certificate{rs, ec}}, both},
		{"RSA only", &tls.Config{Certificates: []tls.Certificate{rs}}, []string{rsPin}},
		{"TLS 1.2 only", &tls.Config{Certificates: []tls.Certificate{ec}, MaxVersion: tls.VersionTLS12}, []string{ecPin}},
		{"TLS 1.3 only", &tls.Config{Certificates: []tls.Certificate{ec, rs}, MinVersion: tls.VersionTLS13}, []string{ecPin}},
		{"TLS 1.1 only", &tls.Config{Certificates: []tls.Certificate{ec}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := recorder{}
			keys, err := client(t, ipp.Config{URI: "ipps://" + r.serve(t, tt.cfg) + "/"}).Keys(t.Context())
			if !slices.Equal(keys, tt.want) || (err == nil) != (tt.want != nil) || err != nil && !errors.Is(err, ipp.ErrUnreachable) {
				t.Errorf("got %v, %v, want %v", keys, err, tt.want)
			}
			if r.mu.Lock(); r.told != 0 {
				t.Errorf("it was told %d bytes", r.told)
			}
			r.mu.Unlock()
		})
	}
	if keys, err := client(t, ipp.Config{URI: "ipp://127.0.0.1:1/"}).Keys(t.Context()); keys != nil || err != nil {
		t.Errorf("of ipp: %v, %v", keys, err)
	}
}

func TestInterface(t *testing.T) {
	srv := httptest.NewServer(&witness{uuid: "a"})
	defer srv.Close()
	for _, tt := range []struct {
		name, iface, uri string
		ok               bool
	}{
		{"by the loopback", "lo", ippURI(srv.URL), true},
		{"not on its network", "lo", "ipp://192.0.2.1/", false},
		{"an interface that is not there", "sportello0", ippURI(srv.URL), false},
	} {
		c := client(t, ipp.Config{URI: tt.uri, UUID: "a", Interface: tt.iface})
		every(t, c, func(op string, err error) {
			var te *ipp.TransportError
			if op != "Create" && (err == nil) != tt.ok || !tt.ok && !errors.As(err, &te) {
				t.Errorf("%s, %s: got %v", tt.name, op, err)
			}
		})
	}
}
