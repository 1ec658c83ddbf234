package ipp_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"sportello.example/appliance/ipp"
)

// every calls each operation that reads an answer.
func every(t *testing.T, c *ipp.Client, f func(op string, err error)) {
	t.Helper()
	_, err := c.Printer(t.Context())
	f("Printer", err)
	_, err = c.Validate(t.Context(), ticket)
	f("Validate", err)
	_, _, err = c.Create(t.Context(), ticket)
	f("Create", err)
	_, err = c.Jobs(t.Context(), ipp.Completed)
	f("Jobs", err)
	f("Cancel", c.Cancel(t.Context(), 1))
	f("Identify", c.Identify(t.Context()))
	f("Send", c.Send(t.Context(), 1, ipp.PDF, document))
}

func TestHostileAnswers(t *testing.T) {
	deep := nested(nil, 2_750_000, true)
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := z.Write(make([]byte, 44<<20)); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		do   func(w http.ResponseWriter, request []byte)
		want error // or the second: two readers call the same differently
		or   error
	}{
		{"44 MB of collections in collections", func(w http.ResponseWriter, r []byte) {
			w.Header().Set("Content-Type", "application/ipp")
			_, _ = w.Write(reply(r, 0))
			_, _ = w.Write(deep)
		}, ipp.ErrAnswer, nil},
		{"a megabyte of collections in collections", func(w http.ResponseWriter, r []byte) {
			answers(w, nested(reply(r, 0), 65_000, true))
		}, ipp.ErrAnswer, nil},
		{"44 MB without a length", func(w http.ResponseWriter, r []byte) {
			w.Header().Set("Content-Type", "application/ipp")
			zeros := make([]byte, 1<<20)
			for range 44 {
				_, _ = w.Write(zeros)
				_ = http.NewResponseController(w).Flush()
			}
		}, ipp.ErrAnswer, nil},
		{"a gzip bomb", func(w http.ResponseWriter, _ []byte) {
			w.Header().Set("Content-Type", "application/ipp")
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb.Bytes())
		}, ipp.ErrAnswer, nil},
		{"an endless header", func(w http.ResponseWriter, _ []byte) {
			for i := range 80 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 100<<10))
			}
		}, ipp.ErrUnreachable, ipp.ErrAnswer},
		{"an answer to another request", func(w http.ResponseWriter, r []byte) {
			b := append(reply(r, 0), 3)
			b[7]++
			answers(w, b)
		}, ipp.ErrAnswer, nil},
		{"version 3.0", func(w http.ResponseWriter, r []byte) {
			b := append(reply(r, 0), 3)
			b[0] = 3
			answers(w, b)
		}, ipp.ErrAnswer, nil},
		{"a password is wanted", func(w http.ResponseWriter, _ []byte) {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
		}, ipp.ErrAuth, nil},
		{"HTTP 503", func(w http.ResponseWriter, _ []byte) { w.WriteHeader(http.StatusServiceUnavailable) }, ipp.ErrAnswer, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err == nil && len(body) >= 8 {
					tt.do(w, body)
				}
			}))
			defer srv.Close()
			c := client(t, ipp.Config{URI: ippURI(srv.URL), Timeout: 20 * time.Second})
			every(t, c, func(op string, err error) {
				if !errors.Is(err, tt.want) && (tt.or == nil || !errors.Is(err, tt.or)) {
					t.Errorf("%s: got %v, want %v", op, err, tt.want)
				}
			})
			var m runtime.MemStats
			if runtime.ReadMemStats(&m); m.StackInuse > 64<<20 {
				t.Errorf("the stacks have grown to %d bytes", m.StackInuse)
			}
		})
	}
}

func TestSlowAnswerEndsInTime(t *testing.T) {
	addr := serve(t, func(c net.Conn) {
		if _, err := c.Read(make([]byte, 4096)); err != nil {
			return
		}
		answer := "HTTP/1.1 200 OK\r\nContent-Type: application/ipp\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 1000000)
		for i := range answer {
			if _, err := c.Write([]byte{answer[i]}); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond) // it is slow on purpose
		}
	})
	c := client(t, ipp.Config{URI: "ipp://" + addr + "/", Timeout: 200 * time.Millisecond, UUID: "x"})
	every(t, c, func(op string, err error) {
		var te *ipp.TransportError
		if !errors.As(err, &te) || te.Sent != 0 {
			t.Errorf("%s: got %v", op, err)
		}
	})
}
