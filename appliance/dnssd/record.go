package dnssd

import (
	"bytes"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// sortable is the order of RFC 6762 §8.2: class, type, data without compression.
func sortable(rr dns.RR) []byte {
	hdr := rr.Header()
	head := []byte{byte(hdr.Class >> 8 & 0x7f), byte(hdr.Class), byte(hdr.Rrtype >> 8), byte(hdr.Rrtype)}
	return append(head, data(rr)...)
}

func data(rr dns.RR) []byte {
	buf := make([]byte, dns.Len(rr)+1)
	end, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		return nil
	}
	_, off, err := dns.UnpackDomainName(buf, 0)
	if err != nil || off+10 > end {
		return nil
	}
	return buf[off+10 : end]
}

// equalRR compares but for the TTL, the cache-flush bit and the case of names.
func equalRR(a, b dns.RR) bool {
	ha, hb := a.Header(), b.Header()
	if ha.Rrtype != hb.Rrtype || !strings.EqualFold(ha.Name, hb.Name) {
		return false
	}
	switch a := a.(type) {
	case *dns.PTR:
		b, ok := b.(*dns.PTR)
		return ok && strings.EqualFold(a.Ptr, b.Ptr)
	case *dns.SRV:
		b, ok := b.(*dns.SRV)
		return ok && a.Port == b.Port && strings.EqualFold(a.Target, b.Target)
	}
	return bytes.Equal(data(a), data(b))
}

// known says whether the asker has the record already (RFC 6762 §7.1).
func known(answers []dns.RR, rr dns.RR) bool {
	return slices.ContainsFunc(answers, func(a dns.RR) bool { return a.Header().Ttl >= rr.Header().Ttl/2 && equalRR(a, rr) })
}
