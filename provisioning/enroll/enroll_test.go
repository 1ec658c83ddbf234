package enroll_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sportello.example/provisioning/admit"
	"sportello.example/provisioning/ca"
	"sportello.example/provisioning/enroll"
	"sportello.example/provisioning/identity"
	"sportello.example/provisioning/throttle"
)

// hub is the hub's half on a real TLS listener, with its records in memory.
type hub struct {
	*httptest.Server
	ca *ca.CA

	mu     sync.Mutex
	now    time.Time
	tokens map[[32]byte]string // used by
	keys   map[uint32]string
	branch string
	lose   bool // the next answer
}

func (h *hub) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *hub) set(do func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	do()
}

func (h *hub) Use(_ context.Context, hash [32]byte, k enroll.Key) (enroll.Grant, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	by, ok := h.tokens[hash]
	if !ok || by != "" && by != k.ID {
		return enroll.Grant{}, enroll.ErrToken
	}
	h.tokens[hash], h.keys[1] = k.ID, k.ID
	return enroll.Grant{Box: 1, Branch: h.branch, Kiosks: 2}, nil
}

func (h *hub) Renew(_ context.Context, box uint32, keyID string) (enroll.Grant, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.keys[box] != keyID {
		return enroll.Grant{}, enroll.ErrRevoked
	}
	return enroll.Grant{Box: box, Branch: h.branch, Kiosks: 2}, nil
}

func startHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC), tokens: map[[32]byte]string{}, keys: map[uint32]string{}, branch: "Biblioteca Harar"}
	var err error
	if h.ca, err = ca.Create(filepath.Join(t.TempDir(), "ca"), h.clock); err != nil {
		t.Fatal(err)
	}
	d := &admit.Desk{
		Boxes: h, CA: h.ca, Log: slog.New(slog.DiscardHandler),
		Wrong: &throttle.Failures{Now: h.clock, Max: 5, Window: time.Minute},
		Complete: func(_ context.Context, e *identity.Enrolment) error {
			e.PublicURL, e.LoginEpoch = "https://sportello.example", 1
			e.KeyQR, e.KeyCode, e.HubTokenKey, e.HubSealKey = make([]byte, 32), make([]byte, 32), make([]byte, 32), make([]byte, 32)
			return nil
		},
	}
	mux := http.NewServeMux()
	losing := func(f http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			h.mu.Lock()
			lose := h.lose
			h.lose = false
			h.mu.Unlock()
			if !lose {
				f(w, r)
				return
			}
			f(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
	}
	mux.HandleFunc("POST "+enroll.PathEnrol, losing(d.ServeEnrol))
	mux.HandleFunc("POST "+enroll.PathRenew, losing(d.ServeRenew))
	h.Server = httptest.NewUnstartedServer(mux)
	h.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	h.TLS = h.ca.TLSConfig()
	h.StartTLS()
	t.Cleanup(h.Close)
	// httptest puts a certificate of its own beside ours; ours must be the one.
	h.TLS.Certificates = nil
	return h
}

func (h *hub) token(t string) string {
	h.set(func() { h.tokens[enroll.HashToken(t)] = "" })
	return t
}

func (h *hub) pin(t *testing.T) enroll.Pin {
	t.Helper()
	p, err := enroll.ParsePin(h.ca.PEM())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (h *hub) client() *enroll.Client {
	return &enroll.Client{Hub: h.URL, Now: h.clock, Timeout: 5 * time.Second}
}

func newBox(t *testing.T) *identity.Identity {
	t.Helper()
	id, err := identity.Create(filepath.Join(t.TempDir(), "id"))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestEnrol(t *testing.T) {
	h := startHub(t)
	id := newBox(t)
	if err := h.client().Enrol(t.Context(), id, h.token("ABCDE-FGHIJ"), h.pin(t)); err != nil {
		t.Fatal(err)
	}
	e, err := id.Enrolment()
	if err != nil || e.Box != 1 || e.Branch != "Biblioteca Harar" || e.Kiosks != 2 || e.PublicURL == "" || !bytes.Equal(e.CA, h.ca.Certificate().Raw) {
		t.Errorf("got %+v, %v", e, err)
	}
	for _, tt := range []struct {
		name  string
		id    *identity.Identity
		token string
		want  error
	}{
		{"the same box may ask again", id, "ABCDE-FGHIJ", nil},
		{"typed in lower case with spaces", id, " abcde fghij", nil},
		{"another box with the same token", newBox(t), "ABCDE-FGHIJ", enroll.ErrToken},
		{"a token the hub does not know", newBox(t), "XXXXX", enroll.ErrToken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := h.client().Enrol(t.Context(), tt.id, tt.token, h.pin(t)); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	t.Run("by fingerprint", func(t *testing.T) {
		pin, err := enroll.ParsePin([]byte(h.ca.Fingerprint() + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		if err := h.client().Enrol(t.Context(), newBox(t), h.token("2"), pin); err != nil {
			t.Error(err)
		}
	})
	t.Run("a hub with another CA gets nothing", func(t *testing.T) {
		other := startHub(t)
		id := newBox(t)
		if err := other.client().Enrol(t.Context(), id, other.token("3"), h.pin(t)); err == nil {
			t.Error("enrolled")
		}
		if _, err := id.Enrolment(); !errors.Is(err, identity.ErrNotEnrolled) {
			t.Errorf("got %v", err)
		}
		other.set(func() {
			if by := other.tokens[enroll.HashToken("3")]; by != "" {
				t.Error("the token was sent")
			}
		})
	})
	t.Run("the answer got lost", func(t *testing.T) {
		id := newBox(t)
		token := h.token("4")
		h.set(func() { h.lose = true })
		if err := h.client().Enrol(t.Context(), id, token, h.pin(t)); err == nil {
			t.Fatal("the answer was not lost")
		}
		if err := h.client().Enrol(t.Context(), id, token, h.pin(t)); err != nil {
			t.Error(err)
		}
	})
	t.Run("a box whose clock stands at 1970", func(t *testing.T) {
		c := h.client()
		c.Now = func() time.Time { return time.Unix(60, 0) }
		id := newBox(t)
		if err := c.Enrol(t.Context(), id, h.token("5"), h.pin(t)); err != nil {
			t.Fatal(err)
		}
		if err := c.Renew(t.Context(), id); err != nil {
			t.Error(err)
		}
	})
	t.Run("wrong tokens are counted", func(t *testing.T) {
		var err error
		for range 6 {
			err = h.client().Enrol(t.Context(), newBox(t), "WRONG", h.pin(t))
		}
		if !errors.Is(err, enroll.ErrTooMany) {
			t.Errorf("sixth wrong token: got %v", err)
		}
		h.set(func() { h.now = h.now.Add(2 * time.Minute) })
		if err := h.client().Enrol(t.Context(), newBox(t), h.token("6"), h.pin(t)); err != nil {
			t.Errorf("two minutes later: %v", err)
		}
	})
}

func TestRenew(t *testing.T) {
	h := startHub(t)
	id := newBox(t)
	if err := h.client().Renew(t.Context(), id); !errors.Is(err, identity.ErrNotEnrolled) {
		t.Errorf("before enrolment: got %v", err)
	}
	if err := h.client().Enrol(t.Context(), id, h.token("1"), h.pin(t)); err != nil {
		t.Fatal(err)
	}
	first, err := id.Enrolment()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		days int
		want error
	}{
		{"early", 1, nil},
		{"after the certificate has ended", 200, nil},
		{"after the grace", 1000, enroll.ErrGraceOver},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.set(func() { h.now, h.branch = h.now.AddDate(0, 0, tt.days), tt.name })
			if err := h.client().Renew(t.Context(), id); !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			e, err := id.Enrolment()
			if err != nil || tt.want == nil && (e.Branch != tt.name || bytes.Equal(e.Certificate, first.Certificate)) {
				t.Errorf("got %+v, %v", e, err)
			}
		})
	}
	t.Run("revoked", func(t *testing.T) {
		id := newBox(t)
		if err := h.client().Enrol(t.Context(), id, h.token("2"), h.pin(t)); err != nil {
			t.Fatal(err)
		}
		h.set(func() { h.keys[1] = "another" })
		if err := h.client().Renew(t.Context(), id); !errors.Is(err, enroll.ErrRevoked) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("without a certificate", func(t *testing.T) {
		c := h.Client()
		c.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		resp, err := c.Post(h.URL+enroll.PathRenew, "application/json", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("got %s", resp.Status)
		}
	})
}

func TestKeepRenewed(t *testing.T) {
	h := startHub(t)
	id := newBox(t)
	if err := h.client().Enrol(t.Context(), id, h.token("1"), h.pin(t)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- h.client().KeepRenewed(ctx, id, 10*time.Millisecond) }()
	h.set(func() { h.now = h.now.Add(ca.Life / 4 * 3); h.lose = true })
	for {
		end, _, err := id.Expires()
		if err != nil {
			t.Fatal(err)
		}
		if end.Sub(h.clock()) > ca.Life/2 {
			break
		}
		select {
		case <-t.Context().Done():
			t.Fatal("not renewed")
		case <-time.After(5 * time.Millisecond):
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestHubAnswersNonsense(t *testing.T) {
	h := startHub(t)
	for _, tt := range []struct {
		name   string
		status int
		kind   string
		body   string
	}{
		{"captive portal", 200, "text/html", "<html>Accept the terms"},
		{"garbage", 200, "application/json", "{{{"},
		{"empty", 200, "application/json", "{}"},
		{"internal error", 500, "application/json", `{"code":"internal"}`},
		{"a refusal nobody knows", 403, "application/json", `{"code":"x"}`},
		{"too long", 200, "application/json", string(make([]byte, 1<<20))},
		{"redirect", 302, "application/json", "{}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", tt.kind)
				w.Header().Set("Location", "/")
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			})
			id := newBox(t)
			err := h.client().Enrol(t.Context(), id, "1", h.pin(t))
			if err == nil || errors.Is(err, enroll.ErrToken) || errors.Is(err, enroll.ErrRevoked) {
				t.Errorf("got %v", err)
			}
			if _, err := id.Enrolment(); !errors.Is(err, identity.ErrNotEnrolled) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("hangs", func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		h.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release })
		c := h.client()
		c.Timeout = 100 * time.Millisecond
		if err := c.Enrol(t.Context(), newBox(t), "1", h.pin(t)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestParsePin(t *testing.T) {
	h := startHub(t)
	id := newBox(t)
	if err := h.client().Enrol(t.Context(), id, h.token("1"), h.pin(t)); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "sha256:", "sha256:abcd", "md5:00", h.ca.Fingerprint() + "00", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if _, err := enroll.ParsePin([]byte(text)); err == nil {
			t.Errorf("%q is a pin", text)
		}
	}
	fp := h.ca.Fingerprint()
	pin, err := enroll.ParsePin([]byte("SHA256:" + fp[7:30] + " : " + fp[30:]))
	if err != nil || pin != h.pin(t) {
		t.Errorf("%v, %v", pin, err)
	}
}

// FuzzEnrol feeds the hub's half what anybody on the network can send it.
func FuzzEnrol(f *testing.F) {
	now := func() time.Time { return time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC) }
	a, err := ca.Create(filepath.Join(f.TempDir(), "ca"), now)
	if err != nil {
		f.Fatal(err)
	}
	id, err := identity.Create(filepath.Join(f.TempDir(), "id"))
	if err != nil {
		f.Fatal(err)
	}
	csr, err := id.CSR()
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(enroll.Request{Token: "GOOD", CSR: csr, TokenKey: id.TokenKey().PublicKey().Bytes()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"token":"x","csr":"AAAA","token_key":"AAAA"}`))
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, body []byte) {
		h := &hub{now: now(), tokens: map[[32]byte]string{enroll.HashToken("GOOD"): ""}, keys: map[uint32]string{}}
		d := &admit.Desk{
			Boxes: h, CA: a, Log: slog.New(slog.DiscardHandler), Wrong: &throttle.Failures{Now: now, Max: 5, Window: time.Minute},
			Complete: func(context.Context, *identity.Enrolment) error { return nil },
		}
		w := httptest.NewRecorder()
		d.ServeEnrol(w, httptest.NewRequest(http.MethodPost, enroll.PathEnrol, bytes.NewReader(body)))
		switch w.Code {
		case 200:
			var e identity.Enrolment
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
				t.Fatal(err)
			}
			if _, err := x509.ParseCertificate(e.Certificate); err != nil {
				t.Error(err)
			}
		case 400, 403:
		default:
			t.Errorf("%q: status %d", body, w.Code)
		}
	})
}
