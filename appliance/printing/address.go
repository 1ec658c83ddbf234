package printing

import (
	"cmp"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"sportello.example/appliance/dnssd"
	"sportello.example/kiosk/staff"
)

// schemes are the ones of the services that are used.
var schemes = map[string]string{"_ipp._tcp": "ipp", "_ipps._tcp": "ipps"}

func serviceURI(s dnssd.Service, addr netip.Addr) string {
	u := url.URL{Scheme: schemes[s.Type], Host: hostPort(addr, s.Port), Path: "/" + strings.TrimPrefix(s.TXT["rp"], "/")}
	return u.String()
}

// URIs returns where an adopted printer announces itself, ipps first. A printer that was adopted with keys, or over
// ipps, is never spoken to in the clear. An announcement is anybody's: only the first few addresses count, and who
// answers there has still to prove which printer it is. One that is spoken to at somebody's risk can prove nothing: it is
// used where it was adopted, and elsewhere after it was adopted again.
func URIs(a staff.Adopted, services []dnssd.Service) []string {
	if a.Link == staff.LinkRisk {
		return nil
	}
	secure := len(a.Keys) > 0 || strings.HasPrefix(a.URI, "ipps:")
	var uris []string
	for _, s := range services {
		scheme := schemes[s.Type]
		if scheme == "" || secure && scheme != "ipps" || normal(s.TXT["uuid"]) != normal(a.UUID) {
			continue
		}
		for _, addr := range s.Addrs {
			if len(uris) < maxAddresses {
				uris = append(uris, serviceURI(s, addr))
			}
		}
	}
	slices.SortFunc(uris, func(a, b string) int { return -cmp.Compare(a, b) }) // ipps sorts behind ipp
	return uris
}
