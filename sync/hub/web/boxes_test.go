package web_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sportello.example/provisioning/admit"
	"sportello.example/provisioning/ca"
	"sportello.example/provisioning/enroll"
	"sportello.example/provisioning/identity"
	"sportello.example/provisioning/throttle"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/anpr"
	"sportello.example/sync/hub/content"
	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/login"
	"sportello.example/sync/hub/pickup"
	"sportello.example/sync/hub/sqlite"
	"sportello.example/sync/hub/stats"
	"sportello.example/sync/hub/web"
	"sportello.example/sync/seal"
	"sportello.example/sync/uplink"
	"sportello.example/sync/wire"
)

const (
	nonce = "00112233445566778899"
	// fiscalCode is invented: municipality Y999 does not exist.
	fiscalCode = "RSSMRA50A01Y999X"
)

// hub is a hub on two real listeners, but for logins and registry, which do as they are told.
type hub struct {
	boxes, public *httptest.Server
	ca            *ca.CA
	fleet         *fleet.Fleet
	store         *sqlite.Store
	ingest        *ingest.Ingest
	key           seal.PrivateKey
	sign          ed25519.PrivateKey
	docs          *content.Desk

	mu      sync.Mutex
	now     time.Time
	regErr  error
	asked   wire.CertificateRequest
	pdf     []byte
	logs    bytes.Buffer
	waiting chan struct{}
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

func (h *hub) Result(ctx context.Context, box uint32, n string, wait time.Duration) (wire.Login, error) {
	if n != nonce || box != 1 {
		return wire.Login{State: wire.LoginWaiting}, nil
	}
	select {
	case <-h.waiting:
		return wire.Login{State: wire.LoginDone, Token: []byte("token")}, nil
	case <-time.After(wait):
		return wire.Login{State: wire.LoginWaiting}, nil
	case <-ctx.Done():
		return wire.Login{}, ctx.Err()
	}
}

func (h *hub) Citizen(_ context.Context, box uint32, n string) (string, error) {
	if box != 1 || n != nonce {
		return "", login.ErrNobody
	}
	return fiscalCode, nil
}

func (h *hub) Family(_ context.Context, who string) ([]wire.Member, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return []wire.Member{{Ref: "r1", Name: "Maria", FamilyName: "Prova", YearOfBirth: 1950}}, h.regErr
}

func (h *hub) Certificate(_ context.Context, who string, q wire.CertificateRequest) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = q
	return h.pdf, h.regErr
}

func (h *hub) Status() (bool, time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.regErr == nil, h.now
}

// Write is the log.
func (h *hub) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.logs.Write(b)
}

// start runs a hub. listen, if given, stands between it and its boxes.
func start(t testing.TB, listen ...func(net.Listener) net.Listener) *hub {
	t.Helper()
	h := &hub{now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC), pdf: []byte("%PDF-1.7 test"), waiting: make(chan struct{})}
	dir := t.TempDir()
	var err error
	if h.ca, err = ca.Create(filepath.Join(dir, "ca"), h.clock); err != nil {
		t.Fatal(err)
	}
	if h.store, err = sqlite.Open(t.Context(), filepath.Join(dir, "hub.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.store.Close() })
	if h.key, err = seal.NewKey(); err != nil {
		t.Fatal(err)
	}
	if _, h.sign, err = ed25519.GenerateKey(nil); err != nil {
		t.Fatal(err)
	}
	rome, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		t.Fatal(err)
	}
	h.fleet = fleet.New(h.store, h.clock)
	log := slog.New(slog.NewTextHandler(h, nil))
	h.ingest = &ingest.Ingest{Store: h.store, Ring: seal.Ring{h.key}, Key: h.sign, Now: h.clock, Log: log}
	h.docs = content.New(content.Config{Store: h.store, Key: h.sign, Now: h.clock, Log: log})
	h.public = httptest.NewUnstartedServer(nil)
	public := &url.URL{Scheme: "http", Host: h.public.Listener.Addr().String()}
	s, err := web.New(web.Config{
		Log: log, Now: h.clock, PublicURL: public, Municipality: "Comune di Prova", Place: rome,
		Enroll: &admit.Desk{
			Boxes: h.fleet, CA: h.ca, Log: log, Wrong: &throttle.Failures{Now: h.clock, Max: 5, Window: time.Minute},
			Complete: func(_ context.Context, e *identity.Enrolment) error {
				k := make([]byte, 32)
				e.KeyQR, e.KeyCode, e.HubTokenKey, e.HubSealKey, e.PublicURL = k, k, k, h.key.Public(), public.String()
				return nil
			},
		},
		Fleet:    h.fleet,
		Ingest:   h.ingest,
		Reports:  &stats.Reports{Counter: h.store, Boxes: h.fleet, Now: h.clock, Place: rome},
		Requests: &pickup.Desk{Store: h.store, Now: h.clock, Wrong: &throttle.Failures{Now: h.clock, Max: 3, Window: time.Minute}},
		Content:  h.docs,
		Logins:   h, Registry: h,
	})
	if err != nil {
		t.Fatal(err)
	}
	h.public.Config.Handler = s.PublicHandler()
	h.public.Start()
	t.Cleanup(h.public.Close)
	h.boxes = httptest.NewUnstartedServer(s.BoxHandler())
	h.boxes.TLS = h.ca.TLSConfig()
	h.boxes.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	for _, l := range listen {
		h.boxes.Listener = l(h.boxes.Listener)
	}
	h.boxes.StartTLS()
	h.boxes.TLS.Certificates = nil // httptest's own
	t.Cleanup(h.boxes.Close)
	return h
}

// enrol lets a new box in and returns its client.
func (h *hub) enrol(t testing.TB, branch string) (*uplink.Client, *identity.Identity) {
	t.Helper()
	_, token, err := h.fleet.Add(t.Context(), branch, 2)
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.Create(filepath.Join(t.TempDir(), "id"))
	if err != nil {
		t.Fatal(err)
	}
	pin, err := enroll.ParsePin([]byte(h.ca.Fingerprint()))
	if err != nil {
		t.Fatal(err)
	}
	if err := (&enroll.Client{Hub: h.boxes.URL, Now: h.clock}).Enrol(t.Context(), id, token, pin); err != nil {
		t.Fatal(err)
	}
	c, err := uplink.New(h.boxes.URL, id, uplink.Options{Now: h.clock, Report: func(context.Context) (wire.Report, error) {
		oldest := h.clock().Add(-time.Hour)
		return wire.Report{Time: h.clock(), Streams: []wire.StreamReport{{Stream: envelope.Stats, Queued: 3, Oldest: &oldest}}, Dead: 2, Disk: wire.DiskReport{State: "ok"}}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, id
}

func problem(err error) string {
	var p *uplink.ProblemError
	if errors.As(err, &p) {
		return p.Code
	}
	return fmt.Sprint(err)
}

func TestBoxInterface(t *testing.T) {
	h := start(t)
	c, _ := h.enrol(t, "Biblioteca Harar")
	other, _ := h.enrol(t, "Niguarda")
	ctx := t.Context()

	t.Run("ping", func(t *testing.T) {
		p, err := c.Ping(ctx)
		if err != nil || p.Version != wire.Version || !p.Time.Equal(h.clock()) || !p.ANPR {
			t.Errorf("got %+v, %v", p, err)
		}
		if b, err := h.fleet.Box(ctx, 1); err != nil || b.Pending != fleet.PendingUnknown || !b.Contact.Equal(h.clock()) {
			t.Errorf("hub knows %+v, %v", b, err)
		}
	})
	t.Run("report", func(t *testing.T) {
		if p, err := c.Report(ctx); err != nil || p.Version != wire.Version {
			t.Errorf("got %+v, %v", p, err)
		}
		if b, err := h.fleet.Box(ctx, 1); err != nil || b.Pending != 3 || b.Report == nil || b.Report.Dead != 2 {
			t.Errorf("hub knows %+v, %v", b, err)
		}
	})
	t.Run("events and what they carry", func(t *testing.T) {
		plain, err := json.Marshal(wire.Request{Code: "234567", Certificates: []string{"residenza"}})
		if err != nil {
			t.Fatal(err)
		}
		box := h.queue(t, 1)
		box.Put(t, event.Event{Kind: event.SessionStarted, Session: "s", Detail: event.Detail{Mode: "self"}})
		box.Put(t, event.Event{Kind: event.RequestLeft, Session: "s", Private: plain})
		for range 2 {
			r, err := c.Deliver(ctx, box.Batch())
			if err != nil || len(r.Acks) != 2 {
				t.Fatalf("got %+v, %v", r, err)
			}
			for _, a := range r.Acks {
				if err := a.Verify(1, []ed25519.PublicKey{h.sign.Public().(ed25519.PublicKey)}); err != nil || a.Seq != 1 || a.Head != box.Run(a.Chain, 1, 1).Head {
					t.Errorf("got %+v, %v", a, err)
				}
			}
		}
		if r, err := c.Collect(ctx, "234567"); err != nil || r.Certificates[0] != "residenza" {
			t.Errorf("got %+v, %v", r, err)
		}
		if r, err := other.Collect(ctx, "234567"); err != nil || r.Certificates[0] != "residenza" {
			t.Errorf("second time: %+v, %v", r, err)
		}
		for range 4 {
			_, err = other.Collect(ctx, "XXXXXX")
		}
		if problem(err) != wire.ProblemTooMany {
			t.Errorf("guessing: %v", err)
		}
	})
	t.Run("login", func(t *testing.T) {
		if l, err := c.Login(ctx, nonce, 0); err != nil || l.State != wire.LoginWaiting {
			t.Errorf("got %+v, %v", l, err)
		}
		go close(h.waiting)
		if l, err := c.Login(ctx, nonce, 10*time.Second); err != nil || l.State != wire.LoginDone || string(l.Token) != "token" {
			t.Errorf("got %+v, %v", l, err)
		}
	})
	t.Run("family and certificate", func(t *testing.T) {
		if f, err := c.Family(ctx, nonce); err != nil || len(f.Members) != 1 || f.Members[0].Ref != "r1" {
			t.Errorf("got %+v, %v", f, err)
		}
		q := wire.CertificateRequest{Nonce: nonce, Certificates: []string{"residenza"}, Member: "r1", Recipient: "private", Exemption: 4, Language: "it"}
		got, err := c.Certificate(ctx, q)
		if err != nil || !bytes.Equal(got, h.pdf) || fmt.Sprint(h.asked) != fmt.Sprint(q) {
			t.Errorf("got %q, %v; the registry was asked %+v", got, err, h.asked)
		}
		if _, err := other.Family(ctx, nonce); problem(err) != wire.ProblemLoginUnknown {
			t.Errorf("another box: %v", err)
		}
		if _, err := other.Certificate(ctx, q); problem(err) != wire.ProblemLoginUnknown {
			t.Errorf("another box: %v", err)
		}
		q.Pickup = "234567"
		h.set(func() { h.regErr = anpr.ErrDown })
		if _, err := c.Certificate(ctx, q); !errors.Is(err, uplink.ErrRegistryDown) {
			t.Errorf("got %v", err)
		}
		h.set(func() { h.regErr = nil; h.now = h.now.Add(20 * 24 * time.Hour) })
		if r, err := c.Collect(ctx, "234567"); err != nil || r.Certificates[0] != "residenza" {
			t.Errorf("after a certificate that was not issued: %+v, %v", r, err)
		}
		for range 2 {
			if _, err := c.Certificate(ctx, q); err != nil {
				t.Errorf("got %v", err)
			}
			if _, err := c.Collect(ctx, "234567"); err != nil {
				t.Errorf("again, the answer was lost: %v", err)
			}
		}
		if _, err := other.Collect(ctx, "234567"); problem(err) != wire.ProblemNoSuchRequest {
			t.Errorf("after a certificate that was issued: %v", err)
		}
		q.Pickup = "XXXXXX"
		if got, err := c.Certificate(ctx, q); err != nil || !bytes.Equal(got, h.pdf) {
			t.Errorf("for a request there is not: %q, %v", got, err)
		}
		q.Pickup, q.Certificates = "", nil
		if _, err := c.Certificate(ctx, q); problem(err) != wire.ProblemMalformed {
			t.Errorf("no certificate: %v", err)
		}
		q.Certificates = []string{"residenza"}
		for err, want := range map[error]string{anpr.ErrNotRegistered: wire.ProblemNotRegistered, anpr.ErrNotCertifiable: wire.ProblemNotCertifiable} {
			h.set(func() { h.regErr = fmt.Errorf("x: %w", err) })
			if _, err := c.Certificate(ctx, q); problem(err) != want {
				t.Errorf("got %v, want %s", err, want)
			}
			if _, err := c.Family(ctx, nonce); problem(err) != want {
				t.Errorf("got %v, want %s", err, want)
			}
		}
		h.set(func() { h.regErr = anpr.ErrDown })
		if _, err := c.Certificate(ctx, q); !errors.Is(err, uplink.ErrRegistryDown) {
			t.Errorf("got %v", err)
		}
		if p, err := c.Ping(ctx); err != nil || p.ANPR {
			t.Errorf("got %+v, %v", p, err)
		}
		h.set(func() { h.regErr = errors.New("secret " + fiscalCode) })
		if _, err := c.Certificate(ctx, q); !errors.Is(err, uplink.ErrOffline) || strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v", err)
		}
		h.set(func() { h.regErr, h.pdf = nil, make([]byte, wire.MaxDocument+1) })
		if _, err := c.Certificate(ctx, q); !errors.Is(err, uplink.ErrRegistryDown) {
			t.Errorf("too large: %v", err)
		}
	})
	t.Run("logs hold no nonce", func(t *testing.T) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if log := h.logs.String(); strings.Contains(log, nonce) {
			t.Error(log)
		}
	})
}

func TestWhoIsLetIn(t *testing.T) {
	h := start(t)
	c, id := h.enrol(t, "Biblioteca Harar")
	_, stranger := start(t).enrol(t, "Biblioteca Harar") // box 1 of another hub
	paths := []struct{ method, path string }{
		{"GET", wire.PathPing},
		{"POST", wire.PathReport},
		{"POST", wire.PathEvents1},
		{"POST", wire.PathEvents2},
		{"GET", wire.PathLogins + nonce},
		{"GET", wire.PathFamily + nonce},
		{"POST", wire.PathCertificates},
		{"POST", wire.PathCollect},
		{"POST", enroll.PathRenew},
	}
	// refused asks for every path and returns the codes of the answers.
	refused := func(t *testing.T, id *identity.Identity, want string) {
		t.Helper()
		conf := &tls.Config{InsecureSkipVerify: true}
		if id != nil {
			own, err := id.TLSConfig(h.clock)
			if err != nil {
				t.Fatal(err)
			}
			conf.GetClientCertificate = own.GetClientCertificate
		}
		hc := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
		for _, p := range paths {
			if want == "expired" && p.path == enroll.PathRenew {
				continue
			}
			req, err := http.NewRequestWithContext(t.Context(), p.method, h.boxes.URL+p.path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := hc.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			var got wire.Problem
			if err != nil || json.Unmarshal(body, &got) != nil || resp.StatusCode != http.StatusForbidden || got.Code != want || resp.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s: %s %q, %v, want 403 %s", p.method, p.path, resp.Status, body, err, want)
			}
		}
	}
	t.Run("nobody without a certificate", func(t *testing.T) { refused(t, nil, "revoked") })
	t.Run("no box of another hub", func(t *testing.T) { refused(t, stranger, "revoked") })
	t.Run("no box whose certificate has ended, before it renews", func(t *testing.T) {
		h.set(func() { h.now = h.now.Add(ca.Life + 24*time.Hour) })
		refused(t, id, "expired")
		if err := (&enroll.Client{Hub: h.boxes.URL, Now: h.clock}).Renew(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if _, err := c.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("no revoked box, from its next request on", func(t *testing.T) {
		if err := h.fleet.Revoke(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Ping(t.Context()); !errors.Is(err, uplink.ErrOffline) {
			t.Errorf("got %v", err)
		}
		refused(t, id, "revoked")
	})
}
