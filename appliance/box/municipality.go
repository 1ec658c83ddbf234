package box

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"sportello.example/kiosk"
	"sportello.example/provisioning/identity"
	"sportello.example/sync/crossdevice"
	"sportello.example/sync/desired"
	"sportello.example/sync/envelope"
	"sportello.example/sync/uplink"
	"sportello.example/sync/wire"
)

// municipality is everything that a box has from its hub. Until the box is enrolled it has nothing: it is as if the
// line were down.
type municipality struct {
	now    func() time.Time
	in     atomic.Pointer[membership]
	failed atomic.Pointer[func()] // tells who watches the line that a call has failed
}

// membership is what enrolment gave.
type membership struct {
	id        *identity.Identity
	enrolment identity.Enrolment
	client    *uplink.Client
	logins    *crossdevice.Box
}

// client returns the client of the hub, or an error that matches kiosk.ErrOffline.
func (m *municipality) client() (*uplink.Client, error) {
	in := m.in.Load()
	if in == nil {
		return nil, fmt.Errorf("%w: not enrolled yet", kiosk.ErrOffline)
	}
	return in.client, nil
}

// said says an uplink error in the kiosk's words; when the hub was not there it has the line looked at now.
func (m *municipality) said(err error) error {
	if errors.Is(err, uplink.ErrOffline) {
		m.look()
	}
	return hubError(err)
}

// look has the line looked at now.
func (m *municipality) look() {
	if failed := m.failed.Load(); failed != nil {
		(*failed)()
	}
}

// hubError says an uplink error in the kiosk's words.
func hubError(err error) error {
	var p *uplink.ProblemError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &p):
		switch p.Code {
		case wire.ProblemNotRegistered, wire.ProblemNotCertifiable:
			return fmt.Errorf("%w: %w", &kiosk.RegistryError{Code: p.Code}, err)
		case wire.ProblemRegistryDown:
			return fmt.Errorf("%w: %w", kiosk.ErrRegistryDown, err)
		case wire.ProblemLoginUnknown:
			return fmt.Errorf("%w: %w", kiosk.ErrLoginOver, err)
		case wire.ProblemNoSuchRequest:
			return fmt.Errorf("%w: %w", kiosk.ErrNoRequest, err)
		case wire.ProblemTooMany:
			return fmt.Errorf("%w: %w", kiosk.ErrTooMany, err)
		}
		return err
	case errors.Is(err, uplink.ErrDigest):
		return fmt.Errorf("%w: %w", kiosk.ErrDocument, err)
	case errors.Is(err, uplink.ErrRegistryDown):
		return fmt.Errorf("%w: %w", kiosk.ErrRegistryDown, err)
	case errors.Is(err, uplink.ErrOffline):
		return fmt.Errorf("%w: %w", kiosk.ErrOffline, err)
	default:
		return err
	}
}

// Login, Family, Certificate and Collect make a kiosk.Hub of the box's client.

// Login asks how far the phone has got.
func (m *municipality) Login(ctx context.Context, nonce string, wait time.Duration) (kiosk.Login, error) {
	c, err := m.client()
	if err != nil {
		return kiosk.Login{}, err
	}
	l, err := c.Login(ctx, nonce, wait)
	return kiosk.Login{State: l.State, Token: l.Token}, m.said(err)
}

// Family asks for the family of who is logged in.
func (m *municipality) Family(ctx context.Context, nonce string) ([]wire.Member, error) {
	c, err := m.client()
	if err != nil {
		return nil, err
	}
	f, err := c.Family(ctx, nonce)
	return f.Members, m.said(err)
}

// Certificate asks for a certificate.
func (m *municipality) Certificate(ctx context.Context, req wire.CertificateRequest) ([]byte, error) {
	c, err := m.client()
	if err != nil {
		return nil, err
	}
	pdf, err := c.Certificate(ctx, req)
	return pdf, m.said(err)
}

// Collect asks for a request that was left.
func (m *municipality) Collect(ctx context.Context, code string) (wire.Request, error) {
	c, err := m.client()
	if err != nil {
		return wire.Request{}, err
	}
	r, err := c.Collect(ctx, code)
	return r, m.said(err)
}

// Deliver hands events to the hub (outbox.Hub).
func (m *municipality) Deliver(ctx context.Context, b envelope.Batch) (wire.Reply, error) {
	c, err := m.client()
	if err != nil {
		return wire.Reply{}, err
	}
	r, err := c.Deliver(ctx, b)
	if errors.Is(err, uplink.ErrOffline) {
		m.look()
	}
	return r, err
}

// State and Blob make a desired.Source of the box's client.

// State asks for the desired state.
func (m *municipality) State(ctx context.Context, etag string, wait time.Duration) (s desired.Signed, tag string, changed bool, err error) {
	c, err := m.client()
	if err != nil {
		return desired.Signed{}, "", false, err
	}
	s, tag, changed, err = c.State(ctx, etag, wait)
	if errors.Is(err, uplink.ErrOffline) && ctx.Err() == nil {
		m.look() // the long poll is the first to notice
	}
	return s, tag, changed, err
}

// Blob fetches a file of the desired state.
func (m *municipality) Blob(ctx context.Context, sha256 string, from int64, w io.Writer) error {
	c, err := m.client()
	if err != nil {
		return err
	}
	return c.Blob(ctx, sha256, from, w)
}

// Begin makes a challenge (kiosk.Logins).
func (m *municipality) Begin(n int) (kiosk.Challenge, error) {
	in := m.in.Load()
	if in == nil {
		return kiosk.Challenge{}, kiosk.ErrOffline
	}
	ch, encoded, err := in.logins.New(uint8(n)) //nolint:gosec // a branch has at most 99 kiosks
	if err != nil {
		return kiosk.Challenge{}, codeError(err)
	}
	return kiosk.Challenge{URL: crossdevice.URL(in.enrolment.PublicURL, encoded), Nonce: ch.NonceHex()}, nil
}

// Enter checks a typed code without any line.
func (m *municipality) Enter(n int, code string) (left int, err error) {
	in := m.in.Load()
	if in == nil {
		return 0, kiosk.ErrLoginDead
	}
	_, _, err = in.logins.Enter(uint8(n), code) //nolint:gosec // as above
	var wrong *crossdevice.WrongError
	if errors.As(err, &wrong) {
		left = wrong.Left
	}
	return left, codeError(err)
}

// Open opens a sealed identity for the challenge whose code was right.
func (m *municipality) Open(n int, nonce string, token []byte) (kiosk.Person, error) {
	in := m.in.Load()
	if in == nil {
		return kiosk.Person{}, kiosk.ErrOffline
	}
	ch, ok := in.logins.Verified(uint8(n)) //nolint:gosec // as above
	if !ok || ch.NonceHex() != nonce {
		return kiosk.Person{}, errors.New("no verified challenge of that name")
	}
	t, err := crossdevice.OpenToken(token, ed25519.PublicKey(in.enrolment.HubTokenKey), in.id.TokenKey(), ch, m.now())
	if err != nil {
		return kiosk.Person{}, err
	}
	return kiosk.NewPerson(t.Name, t.FamilyName), nil
}

// Cancel ends a kiosk's challenge.
func (m *municipality) Cancel(n int) {
	if in := m.in.Load(); in != nil {
		in.logins.Cancel(uint8(n)) //nolint:gosec // as above
	}
}

func codeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, crossdevice.ErrWrong):
		return kiosk.ErrCodeWrong
	case errors.Is(err, crossdevice.ErrLocked):
		return kiosk.ErrLoginLocked
	case errors.Is(err, crossdevice.ErrExpired):
		return kiosk.ErrLoginExpired
	case errors.Is(err, crossdevice.ErrDead), errors.Is(err, crossdevice.ErrNone):
		return kiosk.ErrLoginDead
	default:
		return err
	}
}

// loginKeys reads the keys of an enrolment.
func loginKeys(e identity.Enrolment) (crossdevice.Keys, error) {
	if len(e.KeyQR) != 32 || len(e.KeyCode) != 32 {
		return crossdevice.Keys{}, fmt.Errorf("login keys of box %d: not 32 bytes", e.Box)
	}
	return crossdevice.Keys{QR: e.KeyQR, Code: e.KeyCode}, nil
}
