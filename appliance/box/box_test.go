package box

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"sportello.example/appliance/raster"
	"sportello.example/kiosk"
	"sportello.example/sync/crossdevice"
	"sportello.example/sync/envelope"
	"sportello.example/sync/uplink"
	"sportello.example/sync/wire"
)

// TestMain lets the test binary draw pages as the box's child.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "raster" {
		os.Exit(Main(os.Args[1:], Options{}))
	}
	os.Exit(m.Run())
}

func TestExitCodes(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		want int
	}{
		{"done", []string{"version"}, 0},
		{"failed", []string{"diagnose", "--data", t.TempDir()}, 1},
		{"unknown command", []string{"serf"}, 2},
		{"unknown flag", []string{"--nothing"}, 2},
		{"no such file", []string{"--config", "nothing.toml"}, 2},
		{"no address", []string{"--data", t.TempDir(), "--listen", "foo"}, 2},
		{"address nobody has", []string{"--data", t.TempDir(), "--listen", "192.0.2.1:1"}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, said bytes.Buffer
			if got := Main(tt.args, Options{Stdout: &out, Stderr: &said}); got != tt.want {
				t.Errorf("exit code %d, want %d: %s%s", got, tt.want, out.String(), said.String())
			}
			if tt.want == 2 && !bytes.Contains(said.Bytes(), []byte("appliance: hint: ")) {
				t.Errorf("no hint: %s", said.String())
			}
		})
	}
}

func TestHubErrorsInTheKiosksWords(t *testing.T) {
	for _, tt := range []struct{ err, want error }{
		{fmt.Errorf("certificate: %w", uplink.ErrOffline), kiosk.ErrOffline},
		{uplink.ErrRegistryDown, kiosk.ErrRegistryDown},
		{uplink.ErrDigest, kiosk.ErrDocument},
		{&uplink.ProblemError{Code: wire.ProblemNotRegistered}, kiosk.ErrNotIssued},
		{&uplink.ProblemError{Code: wire.ProblemNotCertifiable}, kiosk.ErrNotIssued},
		{&uplink.ProblemError{Code: wire.ProblemRegistryDown}, kiosk.ErrRegistryDown},
		{&uplink.ProblemError{Code: wire.ProblemLoginUnknown}, kiosk.ErrLoginOver},
		{&uplink.ProblemError{Code: wire.ProblemNoSuchRequest}, kiosk.ErrNoRequest},
		{&uplink.ProblemError{Code: wire.ProblemTooMany}, kiosk.ErrTooMany},
	} {
		if got := hubError(tt.err); !errors.Is(got, tt.want) {
			t.Errorf("hubError(%v) = %v, want %v", tt.err, got, tt.want)
		}
	}
	for _, tt := range []struct{ err, want error }{
		{&crossdevice.WrongError{Left: 2}, kiosk.ErrCodeWrong},
		{crossdevice.ErrDead, kiosk.ErrLoginDead},
		{crossdevice.ErrNone, kiosk.ErrLoginDead},
		{crossdevice.ErrExpired, kiosk.ErrLoginExpired},
		{crossdevice.ErrLocked, kiosk.ErrLoginLocked},
	} {
		if got := codeError(tt.err); !errors.Is(got, tt.want) {
			t.Errorf("codeError(%v) = %v, want %v", tt.err, got, tt.want)
		}
	}
}

func TestViewerRefusesWhatIsNoCertificate(t *testing.T) {
	v := &viewer{&raster.Rasteriser{CacheDir: t.TempDir()}}
	if _, err := v.Draw(t.Context(), []byte("<html>captive portal</html>"), true); !errors.Is(err, kiosk.ErrDocument) {
		t.Errorf("a page of a captive portal: %v, want ErrDocument", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Draw(gone, []byte("%PDF-1.4"), true); errors.Is(err, kiosk.ErrDocument) {
		t.Errorf("a citizen who has gone: %v must not blame the document", err)
	}
}

func TestNotEnrolledIsOffline(t *testing.T) {
	m := &municipality{now: time.Now}
	if _, err := m.Certificate(t.Context(), wire.CertificateRequest{}); !errors.Is(err, kiosk.ErrOffline) {
		t.Errorf("certificate: %v", err)
	}
	if _, err := m.Begin(1); !errors.Is(err, kiosk.ErrOffline) {
		t.Errorf("challenge: %v", err)
	}
	if _, err := m.Deliver(t.Context(), envelope.Batch{}); !errors.Is(err, kiosk.ErrOffline) {
		t.Errorf("delivery: %v", err)
	}
}
