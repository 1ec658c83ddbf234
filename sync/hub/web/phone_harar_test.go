package web_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sportello.example/sync/crossdevice"
	"sportello.example/sync/hub/login"
	"sportello.example/sync/hub/moment"
	"sportello.example/sync/hub/spid"
	"sportello.example/sync/hub/spid/spidtest"
	"sportello.example/sync/hub/web"
)

// harar is a hub with one box (number 7, Biblioteca Harar; it knows of a number 8), an identity provider, and what the box
// knows. It is two replicas: they take turns at answering, and share what is under way. desk is the first one's.
type harar struct {
	url    string
	box    *crossdevice.Box
	boxKey *ecdh.PrivateKey
	hubPub ed25519.PublicKey
	desk   *login.Desk
	idp    *spidtest.IdP
	log    safeBuffer

	mu      sync.Mutex
	offset  time.Duration // of the hub's clock
	revoked bool
	drift   time.Duration
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}
func (s *safeBuffer) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

func (h *harar) now() time.Time { h.mu.Lock(); defer h.mu.Unlock(); return time.Now().Add(h.offset) }

func (h *harar) later(d time.Duration) { h.mu.Lock(); defer h.mu.Unlock(); h.offset += d }

// LoginBox makes a harar the hub's list of boxes.
func (h *harar) LoginBox(_ context.Context, n uint32) (login.Box, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n != 7 && n != 8 || h.revoked {
		return login.Box{}, login.ErrUnknownBox
	}
	return login.Box{Branch: "Biblioteca Harar", Epoch: 1, Key: h.boxKey.PublicKey(), Drift: h.drift}, nil
}

// keyDir returns a directory with the service provider's key already in it: making one takes a second.
func keyDir(t *testing.T) string {
	t.Helper()
	pem, err := providerKey()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "spid-key.pem"), pem, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

var providerKey = sync.OnceValues(func() ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
})

func newHarar(t *testing.T) *harar {
	t.Helper()
	h := &harar{}
	master := bytes.Repeat([]byte{5}, 32)
	hubKey := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{6}, 32))
	h.hubPub = hubKey.Public().(ed25519.PublicKey)
	var err error
	if h.boxKey, err = ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{7}, 32)); err != nil {
		t.Fatal(err)
	}
	h.box = crossdevice.NewBox(crossdevice.BoxConfig{Number: 7, Epoch: 1, Keys: crossdevice.Derive(master, 7, 1), Now: time.Now})
	log := slog.New(slog.NewTextHandler(&h.log, nil))
	shared, desks := moment.New(h.now), [2]*login.Desk{}
	for i := range desks {
		if desks[i], err = login.New(login.Config{Master: master, Key: hubKey, Boxes: h, Moments: shared, Now: h.now, Log: log}); err != nil {
			t.Fatal(err)
		}
	}
	h.desk = desks[0]
	if h.idp, err = spidtest.New(spidtest.Config{Addr: "127.0.0.1:0", Now: h.now, Citizens: []spidtest.Citizen{
		{FiscalCode: maria, Name: "Maria", FamilyName: "Rossi"}, {FiscalCode: anna, Name: "Anna", FamilyName: "Verdi"},
	}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.idp.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })

	srv := httptest.NewUnstartedServer(nil)
	h.url = "http://" + srv.Listener.Addr().String()
	public, err := url.Parse(h.url)
	if err != nil {
		t.Fatal(err)
	}
	dir := keyDir(t)
	var replicas [2]http.Handler
	for i := range replicas {
		provider, err := spid.New(t.Context(), spid.Config{
			PublicURL: public, Dir: dir, Sources: []string{h.idp.MetadataURL()}, Moments: shared, Now: h.now, Log: log,
		})
		if err != nil {
			t.Fatal(err)
		}
		s, err := web.New(web.Config{
			Log: log, Now: h.now, PublicURL: public, Municipality: "Comune di Prova", Place: time.UTC, Logins: desks[i],
			Phones: web.Phones{Login: desks[i], SPID: provider, Moments: shared},
		})
		if err != nil {
			t.Fatal(err)
		}
		replicas[i] = s.PublicHandler()
	}
	var turn atomic.Int64
	srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		replicas[int(turn.Add(1))%len(replicas)].ServeHTTP(w, r)
	})
	srv.Start()
	t.Cleanup(srv.Close)
	h.idp.Trust(h.url + spid.PathMetadata)
	return h
}

// qr makes kiosk 2 show a challenge and returns what its QR holds.
func (h *harar) qr(t *testing.T) (crossdevice.Challenge, string) {
	t.Helper()
	c, encoded, err := h.box.New(2)
	if err != nil {
		t.Fatal(err)
	}
	return c, crossdevice.URL(h.url, encoded)
}

func phone(t *testing.T) *spidtest.Browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &spidtest.Browser{Client: &http.Client{Jar: jar, Timeout: 20 * time.Second}}
}

// walk opens a QR and presses buttons one after the other.
func walk(t *testing.T, b *spidtest.Browser, address string, buttons ...string) {
	t.Helper()
	if err := b.Open(t.Context(), address); err != nil {
		t.Fatal(err)
	}
	for _, id := range buttons {
		if err := b.Press(t.Context(), id); err != nil {
			t.Fatalf("%v\n%s", err, b.HTML)
		}
	}
}

func says(t *testing.T, b *spidtest.Browser, status int, words ...string) {
	t.Helper()
	if b.Status != status {
		t.Errorf("status %d, want %d", b.Status, status)
	}
	for _, w := range words {
		if !strings.Contains(b.HTML, w) {
			t.Errorf("the page does not say %q:\n%s", w, b.HTML)
		}
	}
}
