// Package admit is the hub's half of enrolment (package enroll is the protocol and the box's half): it exchanges a
// one-time token for a certificate, and renews certificates. It is apart because it holds the hub's CA, which no box
// may link.
package admit

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"

	"sportello.example/provisioning/ca"
	"sportello.example/provisioning/enroll"
	"sportello.example/provisioning/identity"
	"sportello.example/provisioning/throttle"
)

// Boxes are the hub's records of boxes and tokens.
type Boxes interface {
	// Use exchanges the token with this hash for a grant and records the key, in one step. The same key may use the
	// same token again, in case the answer was lost. It fails with enroll.ErrToken or enroll.ErrRevoked.
	Use(ctx context.Context, tokenHash [32]byte, k enroll.Key) (enroll.Grant, error)
	// Renew returns the grant of a box that shows a certificate for the key with this ID. It fails with enroll.ErrRevoked
	// when the box is not, or no longer, welcome with that key.
	Renew(ctx context.Context, box uint32, keyID string) (enroll.Grant, error)
}

// Desk is the hub's half: two HTTP handlers. All fields are needed.
type Desk struct {
	Boxes Boxes
	CA    *ca.CA
	Log   *slog.Logger
	// Wrong counts wrong tokens by address.
	Wrong *throttle.Failures
	// Complete adds to an enrolment what the hub shares with that box: keys and addresses.
	Complete func(context.Context, *identity.Enrolment) error
}

// ServeEnrol answers enroll.PathEnrol.
func (d *Desk) ServeEnrol(w http.ResponseWriter, r *http.Request) {
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		from = r.RemoteAddr
	}
	if d.Wrong.Blocked(from) {
		d.refuse(w, r, enroll.ErrTooMany)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, enroll.MaxRequest))
	if err != nil {
		d.refuse(w, r, errors.Join(enroll.ErrMalformed, err))
		return
	}
	q, csr, err := enroll.ParseRequest(body)
	if err != nil {
		d.refuse(w, r, err)
		return
	}
	sum := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
	g, err := d.Boxes.Use(r.Context(), enroll.HashToken(q.Token), enroll.Key{ID: hex.EncodeToString(sum[:]), TokenKey: q.TokenKey})
	if err != nil {
		if errors.Is(err, enroll.ErrToken) {
			d.Wrong.Add(from)
		}
		d.refuse(w, r, err)
		return
	}
	if d.answer(w, r, g, csr.PublicKey) {
		d.Log.InfoContext(r.Context(), "box enrolled", "box", g.Box, "branch", g.Branch)
	}
}

// ServeRenew answers enroll.PathRenew.
func (d *Desk) ServeRenew(w http.ResponseWriter, r *http.Request) {
	cert, s, err := d.peer(r)
	if err != nil && !errors.Is(err, ca.ErrExpired) {
		d.refuse(w, r, err)
		return
	}
	g, err := d.Boxes.Renew(r.Context(), s.Box, s.KeyID)
	if err != nil {
		d.refuse(w, r, err)
		return
	}
	if d.answer(w, r, g, cert.PublicKey) {
		d.Log.InfoContext(r.Context(), "box certificate renewed", "box", g.Box, "branch", g.Branch)
	}
}

// Peer says which box a request comes from, by its certificate. It fails with enroll.ErrRevoked, enroll.ErrGraceOver, or with
// ca.ErrExpired for a box that must renew first. Whether the box is still welcome is for Boxes to say.
func (d *Desk) Peer(r *http.Request) (ca.Subject, error) {
	_, s, err := d.peer(r)
	return s, err
}

// peer returns the certificate of the client, and whom it was made for. The handshake has proved that the client has the
// key.
func (d *Desk) peer(r *http.Request) (*x509.Certificate, ca.Subject, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, ca.Subject{}, enroll.ErrRevoked
	}
	cert := r.TLS.PeerCertificates[0]
	s, err := d.CA.Verify(cert)
	switch {
	case errors.Is(err, ca.ErrGraceOver):
		return nil, ca.Subject{}, errors.Join(enroll.ErrGraceOver, err)
	case errors.Is(err, ca.ErrForeign):
		return nil, ca.Subject{}, errors.Join(enroll.ErrRevoked, err)
	}
	return cert, s, err
}

// answer issues a certificate and sends it with all that goes with it. It reports whether that went well.
func (d *Desk) answer(w http.ResponseWriter, r *http.Request, g enroll.Grant, pub any) bool {
	e := identity.Enrolment{Box: g.Box, Branch: g.Branch, Kiosks: g.Kiosks, CA: d.CA.Certificate().Raw}
	err := d.Complete(r.Context(), &e)
	if err == nil {
		e.Certificate, err = d.CA.Issue(pub, g.Box, g.Branch)
	}
	if err != nil {
		d.refuse(w, r, err)
		return false
	}
	reply(w, http.StatusOK, e)
	return true
}

func (d *Desk) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if status, body, ok := enroll.RefusalOf(err); ok {
		d.Log.WarnContext(r.Context(), "box not let in", "err", err, "path", r.URL.Path, "from", r.RemoteAddr)
		reply(w, status, body)
		return
	}
	d.Log.ErrorContext(r.Context(), "enrolment failed", "err", err, "path", r.URL.Path)
	reply(w, http.StatusInternalServerError, enroll.Refusal{Code: "internal"})
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has gone: it will ask again
}
