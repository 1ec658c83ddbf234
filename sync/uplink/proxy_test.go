package uplink_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sportello.example/provisioning/identity"
	"sportello.example/sync/envelope"
	"sportello.example/sync/uplink"
	"sportello.example/sync/wire"
)

// A process reads the environment's proxy once, so what goes through one is a process of its own: this test program,
// with the folder of an identity and the address of a hub in these variables.
const (
	childIdentity = "UPLINK_TEST_IDENTITY"
	childHub      = "UPLINK_TEST_HUB"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childIdentity); dir != "" {
		if err := child(dir, os.Getenv(childHub)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child talks to a hub as a box does.
func child(dir, hub string) error {
	id, err := identity.Load(dir)
	if err != nil {
		return err
	}
	c, err := uplink.New(hub, id, uplink.Options{Now: time.Now, Timeout: 2 * time.Second})
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := c.Report(ctx); err != nil {
		return err
	}
	if _, err := c.Deliver(ctx, oneRun()); err != nil {
		return err
	}
	for range 2 {
		if _, _, changed, err := c.State(ctx, `"1"`, 40*time.Second); err != nil || changed {
			return fmt.Errorf("state: %v, %w", changed, err)
		}
	}
	return nil
}

// proxy is a forward proxy for CONNECT (RFC 9110 §9.3.6), which knows one host.
type proxy struct {
	net.Listener
	user string        // user:password, "" for everybody
	host string        // the only one that it connects to …
	to   string        // … which is there
	idle time.Duration // how long it bears a connection on which nothing moves, 0: for ever

	connects, refused atomic.Int64
	wg                sync.WaitGroup
}

func startProxy(t *testing.T, p *proxy) *proxy {
	t.Helper()
	var err error
	if p.Listener, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	p.wg.Go(func() {
		for {
			c, err := p.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = p.Close()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.user))
	if p.user != "" && req.Header.Get("Proxy-Authorization") != want {
		p.refused.Add(1)
		_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n")
		return
	}
	if req.Method != http.MethodConnect || req.Host != p.host {
		p.refused.Add(1)
		_, _ = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>")
		return
	}
	up, err := (&net.Dialer{}).Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer func() { _ = up.Close() }()
	p.connects.Add(1)
	_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	moved := func() {}
	if p.idle > 0 {
		end := time.AfterFunc(p.idle, func() { _, _ = c.Close(), up.Close() })
		defer end.Stop()
		moved = func() { end.Reset(p.idle) }
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		pipe(up, in, moved)
		_ = up.Close()
	})
	pipe(c, up, moved)
	_ = c.Close()
	wg.Wait()
}

func pipe(w io.Writer, r io.Reader, moved func()) {
	b := make([]byte, 32<<10)
	for {
		n, err := r.Read(b)
		moved()
		if _, werr := w.Write(b[:n]); err != nil || werr != nil {
			return
		}
	}
}

// hold is how long the hub of TestProxy holds a call: not as long as a real one, but longer than its proxy bears.
func hold(wait int) time.Duration { return min(time.Duration(wait)*time.Second, 4*time.Second) }

func TestProxy(t *testing.T) {
	h := startHub(t)
	h.answer(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case wire.PathState:
			var wait int
			_, _ = fmt.Sscanf(r.Header.Get("Prefer"), "wait=%d", &wait)
			select {
			case <-r.Context().Done():
				return
			case <-time.After(hold(wait)):
			}
			w.WriteHeader(http.StatusNotModified)
		case wire.PathEvents2:
			_, _ = io.WriteString(w, `{"acks":[{"box":7,"chain":{"epoch":"00","stream":"legal"},"head":"`+envelope.Hash{}.String()+strings.Repeat("0", 48)+`"}]}`)
		default:
			_, _ = io.WriteString(w, `{"version":2}`)
		}
	})
	_, port, err := net.SplitHostPort(strings.TrimPrefix(h.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	// Nobody but the proxy knows this name, as in many a municipality.
	host := "hub.comune.example:" + port
	for _, tt := range []struct {
		name  string
		user  string        // that the proxy lets through
		idle  time.Duration // that the proxy bears
		auth  string        // in the address that the box has
		works bool
	}{
		{"open", "", 0, "", true},
		{"with a password", "box:s3:cret", 0, "box:s3%3Acret@", true},
		{"with a password that is missing", "box:secret", 0, "", false},
		{"with another password", "box:secret", 0, "box:sekret@", false},
		{"that cuts what does not move", "", 3 * time.Second, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, &proxy{user: tt.user, idle: tt.idle, host: host, to: h.Listener.Addr().String()})
			dir := t.TempDir() + "/id"
			h.enrol(t, dir)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0])
			cmd.Env = append(os.Environ(), childIdentity+"="+dir, childHub+"=https://"+host,
				"HTTPS_PROXY=http://"+tt.auth+p.Addr().String(), "NO_PROXY=", "no_proxy=", "https_proxy=")
			if !tt.works {
				out, err := cmd.CombinedOutput()
				var exit *exec.ExitError
				if !errors.As(err, &exit) || p.refused.Load() == 0 || p.connects.Load() != 0 || !strings.Contains(string(out), "hub unreachable") {
					t.Errorf("got %v, %s", err, out)
				}
				return
			}
			out, err := cmd.CombinedOutput()
			if err != nil || p.connects.Load() == 0 {
				t.Errorf("%v, %d connections: %s", err, p.connects.Load(), out)
			}
		})
	}
}
