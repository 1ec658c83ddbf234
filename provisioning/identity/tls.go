package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"sportello.example/firmware/release"
)

// HubName is the name in a hub's certificate for boxes. It is the same for every hub, whatever address it is reached
// under: what makes it the right hub is that its certificate comes from the CA that the box was given.
const HubName = "hub.sportello.internal"

// TLSConfig returns the box's side of mutual TLS, or ErrNotEnrolled. It follows renewals: a connection uses the
// certificate that is current when it is made.
//
// A box without a battery wakes up in 1970. Time is therefore taken to be at least the beginning of its own
// certificate and the date of its program; see VerifyHub.
func (id *Identity) TLSConfig(now func() time.Time) (*tls.Config, error) {
	if _, err := id.state(); err != nil {
		return nil, err
	}
	built := release.Current().Time
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: HubName,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			st, err := id.state()
			if err != nil {
				return nil, err
			}
			return &tls.Certificate{Certificate: [][]byte{st.record.Certificate}, PrivateKey: id.key, Leaf: st.leaf}, nil
		},
		InsecureSkipVerify: true, // VerifyConnection does it, for clocks that are behind
		VerifyConnection: func(cs tls.ConnectionState) error {
			st, err := id.state()
			if err != nil {
				return err
			}
			return VerifyHub(cs, st.ca, latest(now(), built, st.leaf.NotBefore))
		},
	}, nil
}

// VerifyHub checks that a connection is to the hub whose CA is given. When the hub's certificate begins after now, it is
// now that is wrong: only that CA makes hub certificates and it does not make them ahead of time. Such a connection is
// accepted, one with a certificate that has ended is not.
func VerifyHub(cs tls.ConnectionState, ca *x509.Certificate, now time.Time) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("hub has no certificate")
	}
	leaf := cs.PeerCertificates[0]
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots:       roots,
		DNSName:     HubName,
		CurrentTime: latest(now, leaf.NotBefore),
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}); err != nil {
		return fmt.Errorf("not the hub of this box: %w", err)
	}
	return nil
}

func latest(t time.Time, others ...time.Time) time.Time {
	for _, o := range others {
		if o.After(t) {
			t = o
		}
	}
	return t
}
