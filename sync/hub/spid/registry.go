package spid

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/beevik/etree"
)

const (
	maxMetadata   = 4 << 20 // bytes of a source: the national registry has a dozen IdPs
	maxIdPs       = 200
	metadataEvery = 24 * time.Hour
	bindRedirect  = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
)

// IdP is an identity provider that a citizen can choose.
type IdP struct {
	EntityID string
	Name     string // as it calls itself, in Italian if it says so
	SSO      string // HTTP-Redirect endpoint

	certs []*x509.Certificate
}

// source is a place where metadata come from, with the last good copy of what was there.
type source struct {
	where string
	read  time.Time
	idps  []IdP
}

// IdPs returns the identity providers in an order drawn anew at each call, every order being as likely as any other:
// the rules want none of them favoured.
func (p *Provider) IdPs() []IdP {
	p.mu.Lock()
	var out []IdP
	for _, s := range p.sources {
		out = append(out, s.idps...)
	}
	p.mu.Unlock()
	for i := len(out) - 1; i > 0; i-- { // Fisher and Yates
		n, err := rand.Int(rand.Reader, big.NewInt(int64(i+1)))
		if err != nil {
			break
		}
		j := int(n.Int64())
		out[i], out[j] = out[j], out[i]
	}
	return out
}

func (p *Provider) idp(entityID string) (IdP, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sources {
		for _, i := range s.idps {
			if i.EntityID == entityID {
				return i, true
			}
		}
	}
	return IdP{}, false
}

// refresh reads the sources that are due. A source that cannot be read keeps what it gave last, also over a restart.
func (p *Provider) refresh(ctx context.Context) {
	for i := range p.cfg.Sources {
		p.mu.Lock()
		s := p.sources[i]
		p.mu.Unlock()
		if len(s.idps) > 0 && p.cfg.Now().Sub(s.read) < metadataEvery {
			continue
		}
		idps, err := p.read(ctx, s.where)
		if err != nil && len(s.idps) == 0 {
			p.cfg.Log.Warn("identity providers not read", "source", s.where, "err", err)
			if raw, cerr := os.ReadFile(p.copyOf(s.where)); cerr == nil {
				if idps, err = p.parse(raw); err == nil {
					p.cfg.Log.Info("identity providers from the last good copy", "source", s.where, "count", len(idps))
				}
			}
		} else if err != nil {
			p.cfg.Log.Warn("identity providers not read again", "source", s.where, "err", err)
		}
		if err != nil {
			continue
		}
		p.mu.Lock()
		p.sources[i].idps, p.sources[i].read = idps, p.cfg.Now()
		p.mu.Unlock()
	}
}

func (p *Provider) copyOf(where string) string {
	sum := sha256.Sum256([]byte(where))
	return filepath.Join(p.cfg.Dir, "idp-"+hex.EncodeToString(sum[:8])+".xml")
}

// read gets and parses one source and keeps a copy of what came over the network.
func (p *Provider) read(ctx context.Context, where string) ([]IdP, error) {
	if !strings.Contains(where, "://") {
		f, err := os.Open(where)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		raw, err := limited(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		return p.parse(raw)
	}
	u, err := url.Parse(where)
	if err != nil {
		return nil, err
	}
	if !p.allowed(u) {
		return nil, errNotTLS
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	res, err := p.cfg.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: status %s", where, res.Status)
	}
	raw, err := limited(res.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	idps, err := p.parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	if err := writeFile(p.copyOf(where), raw, 0o644, os.Rename); err != nil {
		p.cfg.Log.Warn("metadata not kept", "err", err)
	}
	return idps, nil
}

func limited(r io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxMetadata+1))
	if err == nil && len(raw) > maxMetadata {
		err = errors.New("metadata too big")
	}
	return raw, err
}

var errNotTLS = errors.New("https is needed except between programs on loopback")

// allowed reports whether the hub may deal with u: over TLS, or both sides are on this very machine.
func (p *Provider) allowed(u *url.URL) bool {
	return u.Scheme == "https" && u.Host != "" && (!loopback(u) || loopback(p.cfg.PublicURL)) ||
		u.Scheme == "http" && loopback(u) && loopback(p.cfg.PublicURL)
}

// parse reads an EntityDescriptor, or EntitiesDescriptor of several, and returns the usable IdPs in it.
func (p *Provider) parse(raw []byte) ([]IdP, error) {
	if err := lex(raw, 200_000); err != nil {
		return nil, err
	}
	doc := etree.NewDocument()
	if err := doc.ReadFromBytes(raw); err != nil {
		return nil, err
	}
	root := doc.Root()
	if root == nil {
		return nil, errors.New("metadata are empty")
	}
	entities := []*etree.Element{root}
	if is(root, nsMetadata, "EntitiesDescriptor") {
		entities = kids(root, nsMetadata, "EntityDescriptor")
	}
	var out []IdP
	for _, e := range entities {
		idp, err := p.parseEntity(e)
		if err != nil {
			return nil, err
		}
		if out = append(out, idp); len(out) > maxIdPs {
			return nil, errors.New("too many identity providers")
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no identity provider in the metadata")
	}
	return out, nil
}

func (p *Provider) parseEntity(e *etree.Element) (IdP, error) {
	id, err := attr(e, "entityID")
	if err != nil || !is(e, nsMetadata, "EntityDescriptor") {
		return IdP{}, errors.New("metadata without an EntityDescriptor and its entityID")
	}
	idp := IdP{EntityID: id, Name: id}
	role, err := one(e, nsMetadata, "IDPSSODescriptor")
	if err != nil {
		return idp, fmt.Errorf("%s: %w", id, err)
	}
	for _, s := range kids(role, nsMetadata, "SingleSignOnService") {
		if b, _ := attr(s, "Binding"); b == bindRedirect {
			idp.SSO, _ = attr(s, "Location")
		}
	}
	u, err := url.Parse(idp.SSO)
	if err != nil || !p.allowed(u) {
		return idp, fmt.Errorf("%s: endpoint %q: %w", id, idp.SSO, errNotTLS)
	}
	for _, k := range kids(role, nsMetadata, "KeyDescriptor") {
		if use := k.SelectAttrValue("use", "signing"); use != "signing" {
			continue
		}
		walk(k, func(c *etree.Element) {
			if !is(c, nsDSig, "X509Certificate") {
				return
			}
			der, derr := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(c.Text()), ""))
			if derr != nil {
				err = derr
				return
			}
			cert, cerr := x509.ParseCertificate(der)
			if cerr != nil {
				err = cerr
				return
			}
			idp.certs = append(idp.certs, cert)
		})
	}
	if err != nil {
		return idp, fmt.Errorf("%s: certificate: %w", id, err)
	}
	if len(idp.certs) == 0 || len(idp.certs) > 8 {
		return idp, fmt.Errorf("%s: %d certificates for signing", id, len(idp.certs))
	}
	for _, o := range kids(e, nsMetadata, "Organization") {
		for _, n := range kids(o, nsMetadata, "OrganizationDisplayName") {
			if t, err := text(n); err == nil && (idp.Name == id || n.SelectAttrValue("xml:lang", "") == "it") {
				idp.Name = t
			}
		}
	}
	return idp, nil
}
