package ipp

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
)

// tlsConfig accepts the keys in pins, any without. Printers sign their own certificates, for names they are not called
// by, and do not renew them: the key is what is checked, before anything is said, also where a session is resumed.
func tlsConfig(pins []string, host string) *tls.Config {
	host, _, _ = strings.Cut(host, "%")
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         host,
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(pins) == 0 {
				return nil
			}
			key := keyOf(cs)
			if !slices.ContainsFunc(pins, func(p string) bool { return strings.EqualFold(p, key) }) {
				return fmt.Errorf("%w: %s", ErrKey, key)
			}
			return nil
		},
	}
}

// keyOf is the fingerprint of the key that the other end has proven to have.
func keyOf(cs tls.ConnectionState) string {
	if len(cs.PeerCertificates) == 0 {
		return ""
	}
	sum := sha256.Sum256(cs.PeerCertificates[0].RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

func handshake(ctx context.Context, conn net.Conn, cfg *tls.Config) (*tls.Conn, error) {
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return secure, nil
}

// dial makes a connection by the configured way.
func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if c.cfg.Dial != nil {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return c.cfg.Dial(ctx, network, address)
	}
	return DialBy(c.cfg.Interface)(ctx, network, address)
}

// DialBy makes connections that leave by a network interface, to who is on its network; "" means by any. Also printers
// that do not speak IPP can stand alone on a port of the box.
func DialBy(name string) func(ctx context.Context, network, address string) (net.Conn, error) {
	d := &net.Dialer{Timeout: dialTimeout}
	if name != "" {
		d.Control = func(_, address string, raw syscall.RawConn) error {
			if err := onLink(name, address); err != nil {
				return err
			}
			return bind(raw, name)
		}
	}
	return d.DialContext
}

// onLink reports whether address is one of the network on that interface, reached without a router.
func onLink(name, address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	i, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	ip := ap.Addr().Unmap()
	if ip.IsLinkLocalUnicast() && ip.Is6() && (ip.Zone() == "" || ip.Zone() == name) {
		return nil
	}
	prefixes, err := i.Addrs()
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	for _, p := range prefixes {
		if n, ok := p.(*net.IPNet); ok && n.Contains(ip.AsSlice()) {
			return nil
		}
	}
	return fmt.Errorf("%v is not on the network of interface %s", ip, name)
}

// Keys returns the fingerprints of the public keys that the printer shows (hex SHA-256 of the SubjectPublicKeyInfo),
// sorted: some have one for each sort of handshake. It makes a connection for TLS 1.3 and for TLS 1.2 with ECDSA and
// with RSA, without a word of HTTP, and looks at no pins. Of an ipp URI it is nil. The error is a *TransportError when
// the printer cannot be reached or shows no key.
func (c *Client) Keys(ctx context.Context) ([]string, error) {
	if c.url.Scheme != "https" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	var keys []string
	var failures []error
	for _, sort := range []struct {
		min, max uint16
		suites   []uint16
	}{
		{tls.VersionTLS13, tls.VersionTLS13, nil},
		{tls.VersionTLS12, tls.VersionTLS12, []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
		}},
		{tls.VersionTLS12, tls.VersionTLS12, []uint16{
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
			tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
		}},
	} {
		conn, err := c.dial(ctx, "tcp", c.address)
		if err != nil {
			return nil, &TransportError{Op: "TLS", Err: err}
		}
		cfg := tlsConfig(nil, c.url.Hostname())
		cfg.MinVersion, cfg.MaxVersion, cfg.CipherSuites = sort.min, sort.max, sort.suites
		secure, err := handshake(ctx, conn, cfg)
		switch {
		case ctx.Err() != nil:
			_ = conn.Close()
			return nil, &TransportError{Op: "TLS", Err: ctx.Err()}
		case err != nil: // it does not do that sort; not every printer says so
			failures = append(failures, err)
			continue
		}
		keys = append(keys, keyOf(secure.ConnectionState()))
		_ = secure.Close()
	}
	if len(keys) == 0 {
		return nil, &TransportError{Op: "TLS", Err: errors.Join(failures...)}
	}
	slices.Sort(keys)
	return slices.Compact(keys), nil
}
