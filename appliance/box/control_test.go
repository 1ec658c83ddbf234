package box

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestFromTheBoxItself(t *testing.T) {
	for _, tt := range []struct {
		remote, local string
		want          int
	}{
		{"127.0.0.1:5000", "127.0.0.1:8080", http.StatusOK},
		{"127.0.0.1:5000", "", http.StatusOK},
		{"[::1]:5000", "[::1]:8080", http.StatusOK},
		{"[::ffff:127.0.0.1]:5000", "[::]:8080", http.StatusOK},
		{"192.168.1.5:5000", "192.168.1.5:80", http.StatusOK},
		{"192.168.1.5:5000", "[::ffff:192.168.1.5]:80", http.StatusOK},
		{"[fe80::1%eth0]:5000", "[fe80::1%eth0]:80", http.StatusOK},
		{"192.168.1.6:5000", "192.168.1.5:80", http.StatusForbidden},
		{"192.168.1.5:5000", "", http.StatusForbidden},
		{"192.168.1.5:5000", "0.0.0.0:80", http.StatusForbidden},
		{"[fe80::1%eth0]:5000", "[fe80::1%eth1]:80", http.StatusForbidden},
		{"somewhere", "192.168.1.5:80", http.StatusForbidden},
		{"", "", http.StatusForbidden},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://192.168.1.5:80/status", nil)
		r.RemoteAddr = tt.remote
		if tt.local != "" {
			addr, err := net.ResolveTCPAddr("tcp", tt.local)
			if err != nil {
				t.Fatal(err)
			}
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(addr)))
		}
		w := httptest.NewRecorder()
		local(func(http.ResponseWriter, *http.Request) {})(w, r)
		if w.Code != tt.want {
			t.Errorf("from %q to %q: %d, want %d", tt.remote, tt.local, w.Code, tt.want)
		}
	}
}

func TestAddressFile(t *testing.T) {
	for addr, want := range map[string]string{
		"0.0.0.0:80": "127.0.0.1:80", "[::]:8080": "[::1]:8080", "192.168.1.5:80": "192.168.1.5:80", "127.0.0.1:8080": "127.0.0.1:8080",
		"[fe80::1%eth0]:80": "[fe80::1%eth0]:80",
	} {
		dir := t.TempDir()
		_, remove, err := writeControl(dir, addr)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, addressFile)); err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("a box on %s is called at %q, %v, want %s", addr, got, err, want)
		}
		remove()
	}
	// A box that listens everywhere is there.
	for _, addr := range []string{"0.0.0.0:0", ":0"} {
		ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", callable(ln.Addr().String()))
		if err != nil {
			t.Errorf("a box on %s does not answer: %v", ln.Addr(), err)
			continue
		}
		_, _ = c.Close(), ln.Close()
	}
}

// TestNoProxy calls a box that listens on an address of the network while the environment names a proxy.
func TestNoProxy(t *testing.T) {
	if os.Getenv("SPORTELLO_ASK_BOX") != "" {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if resp, err := (running{addr: "192.0.2.1:8080", token: "secret"}).call(ctx, http.MethodGet, "/status", nil); err == nil {
			_ = resp.Body.Close()
			t.Error("a box answers at an address that is nobody's")
		}
		return
	}
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer proxy.Close()
	// The standard library reads the variable once in a process.
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNoProxy$")
	cmd.Env = append(os.Environ(), "SPORTELLO_ASK_BOX=1", "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=", "no_proxy=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("the proxy was asked %d times", n)
	}
}
