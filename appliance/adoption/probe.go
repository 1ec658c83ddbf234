package adoption

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"sportello.example/appliance/escpos"
	"sportello.example/appliance/ipp"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

const (
	// probeTimeout is how long printers may take to say how they are, all of them together.
	probeTimeout = 2 * time.Second
	// oneTimeout is how long the one may take that is being adopted: slow ones need half a second for each new connection.
	oneTimeout = 15 * time.Second
)

// Why a printer cannot be adopted as it is: see staff.Candidate.
const (
	plain       = "plain"       // no TLS, and nothing else that would show that it is the same printer
	noA4        = "no_a4"       //
	noFormat    = "no_format"   // neither PDF nor a picture that the box can make
	raw         = "raw"         // takes bytes and says nothing of what became of them
	unreachable = "unreachable" //
	auth        = "auth"        // asks for a user and a password
	noUUID      = "no_uuid"     // does not say which printer it is
	duplicate   = "duplicate"   // says that it is a printer which still answers with the keys that were adopted
)

// endpoint is an address at which a printer might be.
type endpoint struct {
	uri    string
	group  string // the same for addresses that announce themselves as one printer
	name   string // as it announces itself
	uuid   string // as it announces itself; "" when it does not
	addr   string // IP address; "" when it has none yet
	host   string // name of the machine, by mDNS
	source string // of the candidate
	typed  bool   // somebody typed it: it is shown whatever it is
	barred string // Refused whatever it answers; it is not asked
}

// answer is what an endpoint said.
type answer struct {
	endpoint
	printer ipp.Printer
	keys    []string
	err     error
}

// candidate is a Candidate with what the box needs of it.
type candidate struct {
	staff.Candidate
	endpoint endpoint
	serial   string
	iface    string // network port that leads to this printer only
}

// client makes a client for an address.
func (s *Service) client(uri, uuid string, pins []string) (*ipp.Client, error) {
	return ipp.New(ipp.Config{
		URI: uri, Pins: pins, User: "sportello", Timeout: oneTimeout, Dial: s.cfg.Dial, Interface: s.dedicated(uuid, uri),
	})
}

// receiptDial makes the connections to a receipt printer, by a network port of the box if one leads to it only.
func (s *Service) receiptDial(iface string) func(context.Context, string, string) (net.Conn, error) {
	if s.cfg.Dial == nil && iface != "" {
		return ipp.DialBy(iface)
	}
	return s.cfg.Dial
}

// probe asks what is at an address. The keys are looked at first: what it then says of itself is said by one of them. With
// thorough they are looked at more than once.
func (s *Service) probe(ctx context.Context, e endpoint, thorough bool) answer {
	a := answer{endpoint: e}
	if e.barred != "" {
		return a
	}
	if receipt(e.uri) {
		trouble, err := escpos.Printer{URI: e.uri, Dial: s.receiptDial(s.dedicated(e.uuid, e.uri))}.Status(ctx)
		if trouble == kiosk.TroubleUnreachable { // one that needs a hand is there
			a.err = cmp.Or(err, escpos.ErrUnreachable)
		}
		return a
	}
	c, err := s.client(e.uri, e.uuid, nil)
	if err != nil {
		a.err = err
		return a
	}
	defer c.Close()
	if !secure(e.uri) {
		a.printer, a.err = c.Printer(ctx)
		return a
	}
	for round := range rounds {
		keys, err := c.Keys(ctx)
		if err != nil {
			a.err = err
			return a
		}
		a.keys = append(a.keys, keys...)
		slices.Sort(a.keys)
		a.keys = slices.Compact(a.keys)
		a.printer, a.err = s.ask(ctx, e, a.keys)
		if done := !errors.Is(a.err, ipp.ErrKey); a.err != nil && done || done && (!thorough || round > 0) {
			return a
		}
		// Some servers show several keys in turn. One connection more, and the turn is another one.
		_, _ = c.Printer(ctx)
		c.Close()
	}
	return a
}

// rounds is how often the keys of a printer are looked at that shows one and then another.
const rounds = 4

// ask asks a printer that has one of the keys how it is.
func (s *Service) ask(ctx context.Context, e endpoint, keys []string) (ipp.Printer, error) {
	c, err := s.client(e.uri, e.uuid, keys)
	if err != nil {
		return ipp.Printer{}, err
	}
	defer c.Close()
	return c.Printer(ctx)
}

// probeAll asks everywhere at once: an address where nobody is costs the whole time.
func (s *Service) probeAll(ctx context.Context, es []endpoint) []answer {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	answers := make([]answer, len(es))
	var asking sync.WaitGroup
	for i, e := range es {
		asking.Go(func() { answers[i] = s.probe(ctx, e, false) })
	}
	asking.Wait()
	return answers
}

// judge makes a candidate of an answer. known is what is adopted with its UUID.
func (s *Service) judge(a answer, known staff.Adopted, isKnown bool) candidate {
	c := candidate{endpoint: a.endpoint, serial: a.printer.Serial, iface: s.dedicated(a.printer.UUID, a.uri)}
	c.Candidate = staff.Candidate{
		UUID: a.printer.UUID, Name: a.printer.Name, Make: a.printer.Make, URI: a.uri, Source: a.source, TLS: secure(a.uri),
		Keys: a.keys, Receipt: receipt(a.uri), Known: isKnown,
	}
	if usb(a.uri) {
		c.Source = "usb"
	}
	for _, name := range []string{a.name, c.Make, c.URI} {
		if c.Name == "" {
			c.Name = line(name, maxWho)
		}
	}
	if isKnown {
		c.OldKeys = known.Keys
	}
	c.Refused = s.refused(a, c)
	c.ID = id(c)
	return c
}

// refused says why a candidate cannot be adopted as it is.
func (s *Service) refused(a answer, c candidate) string {
	p := a.printer
	switch {
	case a.barred != "":
		return a.barred
	case errors.Is(a.err, ipp.ErrAuth) || p.Auth:
		return auth
	case a.err != nil:
		return unreachable
	case c.Receipt:
	case p.UUID == "":
		return noUUID
	case len(p.MediaSupported) > 0 && !slices.Contains(p.MediaSupported, ipp.A4Name) &&
		!slices.Contains(p.MediaReady, ipp.A4Name) && !slices.Contains(p.SizesReady, ipp.A4):
		return noA4
	case !slices.Contains(p.Formats, ipp.PDF) && !slices.Contains(p.Formats, ipp.URF) && !slices.Contains(p.Formats, ipp.PWG):
		return noFormat
	}
	if !c.TLS && !usb(c.URI) && c.iface == "" {
		return plain
	}
	return ""
}

// id names a candidate: the same for the same printer with the same keys, so that a page that was shown before somebody
// else looked still works.
func id(c candidate) string {
	parts := []string{c.UUID, strings.Join(c.Keys, " ")}
	if c.UUID == "" || !c.TLS {
		parts = append(parts, c.URI)
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:8])
}

// same reports whether a candidate is the printer that is adopted already, as it is adopted.
func same(c candidate, known staff.Adopted, now time.Time) bool {
	switch known.Link {
	case staff.LinkTLS:
		return c.TLS && len(c.Keys) > 0 && within(c.Keys, known.Keys)
	case staff.LinkRisk:
		return !c.TLS && known.Risk != nil && now.Before(known.Risk.Until)
	}
	return !c.TLS
}

// genuine reports whether an answer is of an adopted printer, by its keys.
func (a answer) genuine(known staff.Adopted) bool {
	return a.err == nil && known.Link == staff.LinkTLS && secure(a.uri) && a.printer.UUID == known.UUID && within(a.keys, known.Keys)
}

// within reports whether every key is one of all.
func within(keys, all []string) bool {
	return !slices.ContainsFunc(keys, func(k string) bool { return !slices.Contains(all, k) })
}
