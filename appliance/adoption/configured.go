package adoption

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"sportello.example/appliance/escpos"
	"sportello.example/appliance/ipp"
	"sportello.example/kiosk/staff"
)

// Configured is a printer that the configuration or provisioning file names. With keys, an interface, an address that is
// ipp-usb's, or a risk, whoever wrote the file answers for it, and it is adopted, unless somebody has retired it or adopted
// it anew since. With nothing but an address it is a candidate.
type Configured struct {
	UUID, URI string   // URI "": wait until it announces itself
	Keys      []string // hex SHA-256 of the SubjectPublicKeyInfo of its TLS keys
	Interface string   // network port of the box that leads to this printer only
	Risk      *staff.Risk
}

// byConfiguration is who has adopted what the configuration names.
const byConfiguration = "configuration"

// normal checks c and writes it as it is compared.
func (c Configured) normal() (Configured, error) {
	c.UUID = normal(c.UUID)
	c.Keys = slices.Clone(c.Keys)
	for i, k := range c.Keys {
		if b, err := hex.DecodeString(k); err != nil || len(b) != sha256.Size {
			return c, fmt.Errorf("key %q is not a SHA-256 in hexadecimal", k)
		}
		c.Keys[i] = strings.ToLower(k)
	}
	slices.Sort(c.Keys)
	c.Keys = slices.Compact(c.Keys)
	if c.URI != "" {
		if err := checkAddress(c.URI); err != nil {
			return c, err
		}
		if len(c.Keys) > 0 && !secure(c.URI) {
			return c, fmt.Errorf("address %q: a key can only be checked with ipps", c.URI)
		}
	}
	if c.Risk != nil && c.URI == "" && c.Interface == "" && len(c.Keys) == 0 {
		return c, errors.New("its uri is missing: in the clear, whoever announces its uuid would get its documents")
	}
	if c.Risk != nil {
		if err := checkRisk(*c.Risk, c.Risk.At); err != nil {
			return c, err
		}
	}
	if c.UUID == "" && (c.URI == "" || len(c.Keys) > 0 || c.Risk != nil) {
		return c, errors.New("its uuid is missing")
	}
	return c, nil
}

// link is how the box knows that it talks to this printer, "" when it does not.
func (c Configured) link() staff.Link {
	switch {
	case c.UUID == "":
		return ""
	case len(c.Keys) > 0:
		return staff.LinkTLS
	case c.Interface != "":
		return staff.LinkDedicated
	case usb(c.URI):
		return staff.LinkUSB
	case c.Risk != nil:
		return staff.LinkRisk
	}
	return ""
}

// combined is what counts of a configured printer: what somebody has said of it at the box, else what the file says. The
// caller holds mu.
func (s *Service) combined(c Configured) (staff.Adopted, bool) {
	st, known := s.stored[c.UUID]
	known = known && c.UUID != ""
	if known && (!st.Retired.IsZero() || st.By != byConfiguration) {
		return st, st.Retired.IsZero()
	}
	link := c.link()
	if link == "" {
		return staff.Adopted{}, false
	}
	a := staff.Adopted{
		UUID: c.UUID, URI: c.URI, Keys: c.Keys, Link: link, PDF: !receipt(c.URI), Receipt: receipt(c.URI), By: byConfiguration,
	}
	switch link {
	case staff.LinkDedicated:
		a.Interface = c.Interface
	case staff.LinkRisk:
		a.Risk = c.Risk
		a.At = c.Risk.At
	}
	if known {
		a.Raster = st.Raster
		if fits(a, st.URI) {
			a.URI = st.URI
		}
	}
	return a, true
}

// dedicated returns the network port that leads to the printer with a UUID or at an address only, "" when there is none.
func (s *Service) dedicated(uuid, uri string) string {
	for _, c := range s.configured {
		if c.Interface != "" && (c.UUID != "" && c.UUID == uuid || c.URI != "" && c.URI == uri) {
			return c.Interface
		}
	}
	return ""
}

// fits reports whether an adopted printer may be spoken to at an address: never in the clear when it has keys.
func fits(a staff.Adopted, uri string) bool {
	if checkAddress(uri) != nil || a.Receipt != receipt(uri) {
		return false
	}
	switch a.Link {
	case staff.LinkTLS:
		return secure(uri)
	case staff.LinkUSB:
		return usb(uri)
	}
	return true
}

func normal(uuid string) string {
	return strings.TrimPrefix(strings.ToLower(strings.TrimSpace(uuid)), "urn:uuid:")
}

func secure(uri string) bool { return strings.HasPrefix(uri, "ipps:") }

func receipt(uri string) bool {
	return strings.HasPrefix(uri, "socket:") || strings.HasPrefix(uri, "file:")
}

// checkAddress is nil for an address that a printer can have.
func checkAddress(uri string) error {
	if len(uri) > maxAddress {
		return fmt.Errorf("%.80q: %w", uri, staff.ErrAddress)
	}
	if receipt(uri) {
		if err := escpos.Check(uri); err != nil {
			return fmt.Errorf("%w: %w", staff.ErrAddress, err)
		}
		return nil
	}
	if _, err := ipp.New(ipp.Config{URI: uri}); err != nil {
		return fmt.Errorf("%w: %w", staff.ErrAddress, err)
	}
	return nil
}

// usb reports whether what answers at an address is on a cable of the box: ipp-usb listens on the loopback.
func usb(uri string) bool {
	if strings.HasPrefix(uri, "file:") {
		return true
	}
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "ipp" {
		return false
	}
	host := u.Hostname()
	a, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && a.Unmap().IsLoopback()
}

// checkRisk is nil when somebody can answer for a risk that was accepted at a time.
func checkRisk(r staff.Risk, at time.Time) error {
	if who(r.By) == "" || line(r.Why, maxWhy) == "" || at.IsZero() || !r.Until.After(at) || r.Until.After(at.AddDate(1, 0, 0)) {
		return staff.ErrRisk
	}
	return nil
}

const (
	maxAddress = 1023 // bytes of a URI (RFC 8011 §5.1.6)
	maxWho     = 80   // runes of who adopts
	maxWhy     = 300  // runes of why a risk is accepted
)

// who is the name of a person as it is stored. Nobody is called as the configuration is.
func who(by string) string {
	by = line(by, maxWho)
	if strings.EqualFold(by, byConfiguration) {
		return "“" + by + "”"
	}
	return by
}

// line is text on one line, of at most limit runes.
func line(text string, limit int) string {
	var rs []rune
	for _, r := range strings.ToValidUTF8(text, "") {
		if unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp) {
			r = ' '
		}
		if rs = append(rs, r); len(rs) == limit {
			break
		}
	}
	return strings.Join(strings.Fields(string(rs)), " ")
}
