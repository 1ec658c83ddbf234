package uplink_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sportello.example/provisioning/ca"
	"sportello.example/provisioning/identity"
	"sportello.example/sync/uplink"
	"sportello.example/sync/wire"
)

// hub is a TLS server with a hub's certificate that answers as it is told.
type hub struct {
	*httptest.Server
	ca     *ca.CA
	handle atomic.Pointer[http.HandlerFunc]
}

func (h *hub) answer(f http.HandlerFunc) { h.handle.Store(&f) }

func (h *hub) reply(status int, kind, body string) {
	h.answer(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

func startHub(t *testing.T) *hub {
	t.Helper()
	a, err := ca.Create(filepath.Join(t.TempDir(), "ca"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{ca: a}
	h.answer(http.NotFound)
	h.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*h.handle.Load())(w, r) }))
	h.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	h.TLS = a.TLSConfig()
	h.StartTLS()
	h.TLS.Certificates = nil // httptest's own
	t.Cleanup(h.Close)
	return h
}

// box returns the identity of a box enrolled at h.
func (h *hub) box(t *testing.T) *identity.Identity {
	t.Helper()
	return h.enrol(t, filepath.Join(t.TempDir(), "id"))
}

// enrol makes an identity in dir and enrols it at h.
func (h *hub) enrol(t *testing.T, dir string) *identity.Identity {
	t.Helper()
	id, err := identity.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	der, err := id.CSR()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := h.ca.Issue(csr.PublicKey, 7, "Biblioteca Harar")
	if err != nil {
		t.Fatal(err)
	}
	k := make([]byte, 32)
	if err := id.Save(identity.Enrolment{
		Box: 7, Branch: "Biblioteca Harar", Kiosks: 1, Certificate: cert, CA: h.ca.Certificate().Raw, KeyQR: k, KeyCode: k, HubTokenKey: k, HubSealKey: k,
	}); err != nil {
		t.Fatal(err)
	}
	return id
}

func (h *hub) client(t *testing.T, o uplink.Options) *uplink.Client {
	t.Helper()
	if o.Now == nil {
		o.Now = time.Now
	}
	c, err := uplink.New(h.URL, h.box(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// calls are all methods of a client, for what must be the same in each.
var calls = map[string]func(context.Context, *uplink.Client) error{
	"Ping":   func(ctx context.Context, c *uplink.Client) error { _, err := c.Ping(ctx); return err },
	"Report": func(ctx context.Context, c *uplink.Client) error { _, err := c.Report(ctx); return err },
	"Deliver": func(ctx context.Context, c *uplink.Client) error {
		_, err := c.Deliver(ctx, oneRun())
		return err
	},
	"State": func(ctx context.Context, c *uplink.Client) error {
		_, _, _, err := c.State(ctx, "", 0)
		return err
	},
	"Blob": func(ctx context.Context, c *uplink.Client) error {
		return c.Blob(ctx, strings.Repeat("0", 64), 0, io.Discard)
	},
	"Login": func(ctx context.Context, c *uplink.Client) error {
		_, err := c.Login(ctx, "00112233445566778899", 0)
		return err
	},
	"Family": func(ctx context.Context, c *uplink.Client) error {
		_, err := c.Family(ctx, "00112233445566778899")
		return err
	},
	"Certificate": func(ctx context.Context, c *uplink.Client) error {
		_, err := c.Certificate(ctx, wire.CertificateRequest{Certificates: []string{"residenza"}})
		return err
	},
	"Collect": func(ctx context.Context, c *uplink.Client) error { _, err := c.Collect(ctx, "234567"); return err },
}

func TestOffline(t *testing.T) {
	h := startHub(t)
	c := h.client(t, uplink.Options{Timeout: 300 * time.Millisecond})
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	for _, tt := range []struct {
		name string
		do   func()
	}{
		{"garbage with status 200", func() { h.reply(200, "application/json", "\x00\x01garbage") }},
		{"garbage PDF", func() { h.reply(200, "application/octet-stream", "%PDF-1.7") }},
		{"captive portal", func() { h.reply(200, "text/html; charset=utf-8", "<html>Accept our terms") }},
		{"captive portal that redirects", func() {
			h.answer(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://portal.example/", http.StatusFound)
			})
		}},
		{"no content type", func() { h.reply(200, "", "{}") }},
		{"internal error", func() { h.reply(500, "application/json", `{"code":"internal"}`) }},
		{"error with a code that belongs to a refusal", func() { h.reply(500, "application/json", `{"code":"not_registered"}`) }},
		{"bad gateway of a proxy", func() { h.reply(502, "text/html", "<html>") }},
		{"unknown refusal", func() { h.reply(403, "application/json", `{"code":"revoked"}`) }},
		{"answer too long", func() { h.reply(200, "application/json", `{"code":"`+strings.Repeat("x", wire.MaxDocument)+`"}`) }},
		{"body cut", func() {
			h.answer(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Content-Length", "1000")
				_, _ = io.WriteString(w, `{"version":1`)
				panic(http.ErrAbortHandler)
			})
		}},
		{"connection cut", func() { h.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.do()
			for name, call := range calls {
				var p *uplink.ProblemError
				if err := call(t.Context(), c); !errors.Is(err, uplink.ErrOffline) || errors.As(err, &p) {
					t.Errorf("%s: got %v, want ErrOffline", name, err)
				}
			}
		})
	}
	t.Run("hangs", func(t *testing.T) {
		h.answer(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		})
		for name, call := range calls {
			start := time.Now()
			if err := call(t.Context(), c); !errors.Is(err, uplink.ErrOffline) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 10*time.Second {
				t.Errorf("%s: got %v after %v", name, err, time.Since(start))
			}
		}
	})
	t.Run("hangs in the middle of the answer", func(t *testing.T) {
		h.answer(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		for name, call := range calls {
			if err := call(t.Context(), c); !errors.Is(err, uplink.ErrOffline) {
				t.Errorf("%s: got %v", name, err)
			}
		}
	})
	t.Run("works again afterwards", func(t *testing.T) {
		h.reply(200, "application/json", `{"version":1}`)
		if _, err := c.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("another CA", func(t *testing.T) {
		other := startHub(t)
		var asked atomic.Bool
		other.answer(func(http.ResponseWriter, *http.Request) { asked.Store(true) })
		c, err := uplink.New(other.URL, h.box(t), uplink.Options{Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for name, call := range calls {
			if err := call(t.Context(), c); !errors.Is(err, uplink.ErrOffline) {
				t.Errorf("%s: got %v", name, err)
			}
		}
		if asked.Load() {
			t.Error("a request reached a hub with another CA")
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		gone := startHub(t)
		c := gone.client(t, uplink.Options{})
		gone.Close()
		for name, call := range calls {
			if err := call(t.Context(), c); !errors.Is(err, uplink.ErrOffline) || strings.Contains(err.Error(), "00112233") {
				t.Errorf("%s: got %v", name, err)
			}
		}
	})
	t.Run("the caller gives up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Ping(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestProblems(t *testing.T) {
	h := startHub(t)
	c := h.client(t, uplink.Options{})
	for _, code := range []string{
		wire.ProblemNotRegistered, wire.ProblemNotCertifiable, wire.ProblemLoginUnknown,
		wire.ProblemNoSuchRequest, wire.ProblemTooMany, wire.ProblemMalformed,
	} {
		h.reply(404, "application/json", fmt.Sprintf(`{"code":%q}`, code))
		for name, call := range calls {
			var p *uplink.ProblemError
			if err := call(t.Context(), c); !errors.As(err, &p) || p.Code != code || errors.Is(err, uplink.ErrOffline) {
				t.Errorf("%s: got %v, want problem %s", name, err, code)
			}
		}
	}
	h.reply(502, "application/json", `{"code":"registry_down"}`)
	for name, call := range calls {
		if err := call(t.Context(), c); !errors.Is(err, uplink.ErrRegistryDown) || errors.Is(err, uplink.ErrOffline) {
			t.Errorf("%s: got %v, want ErrRegistryDown", name, err)
		}
	}
}

func TestCertificate(t *testing.T) {
	h := startHub(t)
	c := h.client(t, uplink.Options{})
	pdf := append([]byte("%PDF-1.7\n"), bytes.Repeat([]byte{0, 1, 2, 255}, 1<<20)...)
	digest := func(b []byte) string {
		sum := sha256.Sum256(b)
		return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
	}
	for _, tt := range []struct {
		name   string
		digest string
		body   []byte
		want   error
	}{
		{"whole", digest(pdf), pdf, nil},
		{"with another digest beside it", "sha-512=:AAAA:, " + digest(pdf), pdf, nil},
		{"no digest", "", pdf, uplink.ErrDigest},
		{"digest of another algorithm only", "md5=:AAAA:", pdf, uplink.ErrDigest},
		{"one byte changed", digest(pdf), append(bytes.Clone(pdf[:len(pdf)-1]), 'x'), uplink.ErrDigest},
		{"cut", digest(pdf), pdf[:100], uplink.ErrDigest},
		{"digest that is none", "sha-256=:%%%:", pdf, uplink.ErrDigest},
		{"digest that does not end", strings.TrimSuffix(digest(pdf), ":"), pdf, uplink.ErrDigest},
		{"too large", digest(make([]byte, wire.MaxDocument+1)), make([]byte, wire.MaxDocument+1), uplink.ErrOffline},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.answer(func(w http.ResponseWriter, r *http.Request) {
				var q wire.CertificateRequest
				if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.Nonce != "n" || r.URL.Path != wire.PathCertificates {
					t.Errorf("%s: %+v, %v", r.URL, q, err)
				}
				w.Header().Set("Content-Type", "application/pdf")
				w.Header().Set("Content-Digest", tt.digest)
				_, _ = w.Write(tt.body)
			})
			got, err := c.Certificate(t.Context(), wire.CertificateRequest{Nonce: "n"})
			if !errors.Is(err, tt.want) || tt.want == nil && (err != nil || !bytes.Equal(got, pdf)) {
				t.Errorf("got %d bytes, %v, want %v", len(got), err, tt.want)
			}
		})
	}
}

func TestMessages(t *testing.T) {
	h := startHub(t)
	c := h.client(t, uplink.Options{Report: func(context.Context) (wire.Report, error) { return wire.Report{Dead: 3}, nil }})
	h.answer(func(w http.ResponseWriter, r *http.Request) {
		if s, err := h.ca.Verify(r.TLS.PeerCertificates[0]); err != nil || s.Box != 7 {
			t.Errorf("box shows %+v, %v", s, err)
		}
		out := map[string]string{
			wire.PathPing + "?":                                `{"version":1,"time":"2026-11-22T09:00:00Z","anpr":true,"later":"field"}`,
			wire.PathReport + "?":                              `{"version":2,"time":"2026-11-22T09:00:00Z","anpr":true}`,
			wire.PathLogins + "00112233445566778899?wait=2":    `{"state":"done","token":"AQI="}`,
			wire.PathFamily + "00112233445566778899?":          `{"members":[{"ref":"r","name":"A","family_name":"B","year_of_birth":1950}]}`,
			wire.PathCollect + "?":                             `{"code":"234567","certificates":["residenza"]}`,
			wire.PathLogins + "ffffffffffffffffffff?wait=0":    `{"state":"what"}`,
			wire.PathLogins + "..%2F..%2Fping?wait=0":          `{"state":"waiting"}`,
			wire.PathFamily + "not%20a%20nonce%3Fx=1%23y%2Fz?": `{"members":[]}`,
		}
		q := r.URL.Query()
		if r.URL.Path == wire.PathPing && q.Get("time") == "" {
			t.Error("the box does not say what time it is")
		}
		q.Del("time")
		body, ok := out[r.URL.EscapedPath()+"?"+q.Encode()]
		if !ok {
			t.Errorf("asked for %s", r.URL)
		}
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		_, _ = io.WriteString(w, body)
	})
	ctx := t.Context()
	if p, err := c.Ping(ctx); err != nil || !p.ANPR || p.Time.Year() != 2026 {
		t.Errorf("Ping: %+v, %v", p, err)
	}
	if p, err := c.Report(ctx); err != nil || !p.ANPR || p.Version != 2 {
		t.Errorf("Report: %+v, %v", p, err)
	}
	if l, err := c.Login(ctx, "00112233445566778899", 2500*time.Millisecond); err != nil || l.State != wire.LoginDone || len(l.Token) != 2 {
		t.Errorf("Login: %+v, %v", l, err)
	}
	if _, err := c.Login(ctx, "ffffffffffffffffffff", 0); !errors.Is(err, uplink.ErrOffline) {
		t.Errorf("Login with an unknown state: %v", err)
	}
	if _, err := c.Login(ctx, "../../ping", 0); err != nil {
		t.Errorf("Login with a nonce that is a path: %v", err)
	}
	if f, err := c.Family(ctx, "00112233445566778899"); err != nil || len(f.Members) != 1 || f.Members[0].YearOfBirth != 1950 {
		t.Errorf("Family: %+v, %v", f, err)
	}
	if _, err := c.Family(ctx, "not a nonce?x=1#y/z"); err != nil {
		t.Errorf("Family: %v", err)
	}
	if r, err := c.Collect(ctx, "234567"); err != nil || r.Code != "234567" {
		t.Errorf("Collect: %+v, %v", r, err)
	}
}

func TestLoginWaits(t *testing.T) {
	h := startHub(t)
	c := h.client(t, uplink.Options{Timeout: 200 * time.Millisecond})
	h.answer(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(700 * time.Millisecond) // longer than other calls may take, shorter than the wait
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"state":"cancelled"}`)
	})
	if l, err := c.Login(t.Context(), "00", time.Second); err != nil || l.State != wire.LoginCancelled {
		t.Errorf("got %+v, %v", l, err)
	}
}

func TestNew(t *testing.T) {
	h := startHub(t)
	for _, u := range []string{"", "hub:8443", "http://hub.example", "https://", "://"} {
		if _, err := uplink.New(u, h.box(t), uplink.Options{Now: time.Now}); err == nil {
			t.Errorf("%q was accepted", u)
		}
	}
	id, err := identity.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := uplink.New(h.URL, id, uplink.Options{Now: time.Now}); !errors.Is(err, identity.ErrNotEnrolled) {
		t.Errorf("got %v", err)
	}
}
