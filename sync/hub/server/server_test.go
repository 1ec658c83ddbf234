package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sportello.example/firmware/program"
	"sportello.example/provisioning/enroll"
	"sportello.example/provisioning/identity"
	"sportello.example/sync/crossdevice"
	"sportello.example/sync/hub/ingest/ingesttest"
	"sportello.example/sync/uplink"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"hub": func() { os.Exit(Main(os.Args[1:], Options{})) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
			e.Setenv("STATE_DIRECTORY", "")
			return nil
		},
	})
}

// running starts a hub on free ports and returns where it is and a function that stops it.
func running(t *testing.T, c Config) (Addresses, func()) {
	t.Helper()
	if c.PublicAddress == "" {
		c.PublicAddress = "127.0.0.1:0"
	}
	c.BoxAddress = "127.0.0.1:0"
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan Addresses, 1), make(chan error, 1)
	go func() { done <- Run(ctx, c, slog.New(slog.DiscardHandler), func(a Addresses) { ready <- a }) }()
	select {
	case a := <-ready:
		stopped := false
		stop := func() {
			if stopped {
				return
			}
			stopped = true
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		}
		t.Cleanup(stop)
		return a, stop
	case err := <-done:
		t.Fatalf("Run: %v", err)
	}
	panic("not reached")
}

func TestBoxSurvivesARestartOfTheHub(t *testing.T) {
	data := t.TempDir()
	r, err := openRecords(t.Context(), data, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	_, token, err := r.fleet.Add(t.Context(), "Biblioteca Harar", 2)
	if err != nil {
		t.Fatal(err)
	}
	pin, err := enroll.ParsePin(r.ca.PEM())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	a, stop := running(t, Config{Data: data})
	id, err := identity.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := (&enroll.Client{Hub: "https://" + a.Box, Now: time.Now}).Enrol(t.Context(), id, token, pin); err != nil {
		t.Fatal(err)
	}
	e, err := id.Enrolment()
	if err != nil || e.PublicURL != a.PublicURL || e.Branch != "Biblioteca Harar" || e.Kiosks != 2 || e.LoginEpoch != 1 {
		t.Errorf("got %+v, %v", e, err)
	}
	k, err := loadKeys(filepath.Join(data, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	if want := crossdevice.Derive(k.master, e.Box, e.LoginEpoch); string(want.QR) != string(e.KeyQR) || string(want.Code) != string(e.KeyCode) {
		t.Error("the box has other login keys than the hub derives")
	}
	box := ingesttest.New(e.Box, "00112233445566778899aabbccddeeff", time.Now())
	deliver := func(a Addresses, seq uint64) {
		t.Helper()
		c, err := uplink.New("https://"+a.Box, id, uplink.Options{Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if p, err := c.Ping(t.Context()); err != nil || p.ANPR {
			t.Errorf("ping of a hub without registry: %+v, %v", p, err)
		}
		box.Visits(t, 1)
		r, err := c.Deliver(t.Context(), box.Batch())
		if err != nil {
			t.Fatal(err)
		}
		for _, ack := range r.Acks[:2] {
			if err := ack.Verify(e.Box, []ed25519.PublicKey{e.HubTokenKey}); err != nil || ack.Seq != seq {
				t.Errorf("event %d: %+v, %v", seq, ack, err)
			}
		}
		// A login that nobody finishes does not keep the hub from stopping.
		go func() { _, _ = c.Login(context.WithoutCancel(t.Context()), "00112233445566778899", 25*time.Second) }()
	}
	deliver(a, 1)
	start := time.Now()
	stop()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("stopping took %v", took)
	}
	a, stop = running(t, Config{Data: data})
	deliver(a, 2)
	file := filepath.Join(t.TempDir(), "backup.db")
	command := func(args ...string) (int, string) {
		var out bytes.Buffer
		return Main(append(args, "--data", data), Options{Stdout: &out, Stderr: &out}), out.String()
	}
	if code, out := command("backup", file); code != 0 {
		t.Errorf("backup beside a hub that runs: %d\n%s", code, out)
	}
	deliver(a, 3)
	if code, out := command("restore", file); code != 1 || !strings.Contains(out, "stop the hub") {
		t.Errorf("restore beside a hub that runs: %d\n%s", code, out)
	}
	stop()
	if code, out := command("restore", file); code != 0 || !strings.Contains(out, "start the hub") {
		t.Errorf("restore: %d\n%s", code, out)
	}
	a, _ = running(t, Config{Data: data})
	deliver(a, 4)
	if code, out := command("alarm", "list"); code != 0 || !strings.Contains(out, "no alarms") {
		t.Errorf("%d\n%s", code, out)
	}
}

func TestPublicTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write := func(serial int64) *x509.CertPool {
		t.Helper()
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
		der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
		if err != nil {
			t.Fatal(err)
		}
		pk, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string]*pem.Block{key: {Type: "PRIVATE KEY", Bytes: pk}, cert: {Type: "CERTIFICATE", Bytes: der}} {
			if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chtimes(cert, time.Now(), time.Now().Add(time.Duration(serial)*time.Second)); err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AddCert(leaf)
		return pool
	}
	pool := write(1)
	a, _ := running(t, Config{Data: t.TempDir(), TLSCert: cert, TLSKey: key})
	get := func(pool *x509.CertPool) (string, error) {
		hc := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
		resp, err := hc.Get(a.PublicURL + "/healthz")
		if err != nil {
			return "", err
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	if body, err := get(pool); err != nil || body != "ok\n" || !strings.HasPrefix(a.PublicURL, "https://") {
		t.Errorf("%s: %q, %v", a.PublicURL, body, err)
	}
	if body, err := get(write(2)); err != nil || body != "ok\n" {
		t.Errorf("after renewal: %q, %v", body, err)
	}
}

func TestSettings(t *testing.T) {
	for _, tt := range []struct {
		name string
		text string
		bad  string // part of the error, "" when it is good
	}{
		{"nothing", ``, ""},
		{"loopback by name", `public_address = "localhost:1"`, ""},
		{"everything on one page", `public_address = ":80"
public_url = "https://sportello.comune.example/"
behind_proxy = true
box_address = "0.0.0.0:8443"
data = "d"
municipality = "Comune di Milano"
time_zone = "Europe/Rome"
log = "json"
anpr_url = "http://127.0.0.1:1"
[spid]
entity_id = "https://x.example"
idp_metadata = ["a.xml"]
[spid.organization]
name = "Comune di Milano"
phone = "+3902"`, ""},
		{"unknown field", "log = \"text\"\n\nlisten = \"x\"\n", `3: no field is called "listen"`},
		{"unknown field in a section", "[spid]\nidp = \"x\"\n", `2: no field is called "spid.idp"`},
		{"wrong type", "behind_proxy = \"yes\"\n", "1: "},
		{"not TOML", "{\"log\": 1}", "1: "},
		{"plain HTTP for the world", `public_address = "0.0.0.0:80"`, "without encryption"},
		{"plain HTTP on every interface", `public_address = ":80"`, "without encryption"},
		{"certificate without key", `tls_cert = "x"`, "belong together"},
		{"no port", `public_address = "127.0.0.1"`, "public_address"},
		{"no port for boxes", `box_address = "127.0.0.1"`, "box_address"},
		{"address that is none", `public_url = "sportello.example"`, "public_url"},
		{"address with a path", `public_url = "https://example.org/sportello"`, "public_url"},
		{"time zone", `time_zone = "Milano"`, "time_zone"},
		{"log", `log = "xml"`, "neither text nor json"},
		{"a shared database", `database = "postgresql://hub:s3cret@db.comune.example:5432/hub?sslmode=verify-full"`, ""},
		{"another kind of database", `database = "mysql://hub:s3cret@db.comune.example/hub"`, "not an address of PostgreSQL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c Config
			err := program.ParseConfig([]byte(tt.text), &c)
			if err == nil {
				_, err = c.settings()
			}
			if tt.bad == "" && err != nil || tt.bad != "" && (err == nil || !strings.Contains(err.Error(), tt.bad)) {
				t.Errorf("got %v, want %q", err, tt.bad)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("a password is in %v", err)
			}
		})
	}
	t.Run("what is wrong is wrong usage", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "hub.toml")
		for _, text := range []string{"x = 1", "{", strings.Repeat("#", 1<<20+1)} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var u *program.UsageError
			if _, err := LoadConfig(path); !errors.As(err, &u) {
				t.Errorf("%.10q: got %v", text, err)
			}
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("log = \"text\"\n[spid]\nidp_metadata = [\"a\"]\n"))
	f.Add([]byte("[spid.organization]\nname = 1"))
	f.Add([]byte("public_url = \"http://[::1\""))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Config
		if program.ParseConfig(b, &c) == nil {
			_, _ = c.settings()
		}
	})
}

func TestKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	a, err := loadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := loadKeys(dir)
	if err != nil || string(a.master) != string(b.master) || !a.token.Equal(b.token) || string(a.seal.Public()[0]) != string(b.seal.Public()[0]) {
		t.Errorf("after a restart the keys are others (%v)", err)
	}
	for _, text := range []string{"", "short", strings.Repeat("zz", 32)} {
		if err := os.WriteFile(filepath.Join(dir, "master.key"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadKeys(dir); err == nil || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%q: got %v", text, err)
		}
	}
}
