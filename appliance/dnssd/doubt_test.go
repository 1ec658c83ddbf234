package dnssd

import (
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestDoubt(t *testing.T) {
	const uuid = "0b5c3a44-7d0e-4c7a-9f67-1d2e3f405162"
	named := strings.Replace(txt, `"rp=ipp/print"`, `"rp=ipp/print" "UUID=`+strings.ToUpper(uuid)+`"`, 1)
	start := func(answer func(dns.Question, time.Duration) [][]string) *lan {
		l := newLAN(t)
		l.hear(ptr, at, named, addr)
		l.until(30 * time.Second)
		l.c.doubt("another", l.now)
		l.until(31 * time.Second)
		l.asked, l.answer = nil, answer
		l.c.doubt(uuid, l.now)
		return l
	}
	asked := func(l *lan, typ uint16) (at []time.Duration) {
		for _, q := range l.asked {
			if q.typ == typ {
				at = append(at, q.at)
			}
		}
		return at
	}

	l := start(answers(map[string][][]string{"fake.local. A": {{"!fake.local. 120 IN A 192.0.2.10"}}}))
	l.until(33 * time.Second)
	if at := asked(l, dns.TypeA); len(at) == 0 || at[0] != 31*time.Second {
		t.Errorf("address asked for at %v, want at once", at)
	}
	if got := l.known(); !strings.Contains(got, "192.0.2.10]") {
		t.Errorf("with another address: %s", got)
	}

	l = start(nil)
	l.until(40 * time.Second)
	if got := l.known(); !strings.Contains(got, "192.0.2.9") {
		t.Errorf("doubted for nine seconds: %q", got)
	}
	if at := asked(l, dns.TypeA); len(at) < 4 {
		t.Errorf("address asked for at %v, want four times", at)
	}
	l.until(42 * time.Second)
	if got := l.known(); got != "" {
		t.Errorf("doubted, and nobody answered: %s", got)
	}
}

// TestDoubtWithoutNetwork has a doubt wait for the network to come back.
func TestDoubtWithoutNetwork(t *testing.T) {
	var b Browser
	b.Doubt("one")
	select {
	case <-b.doubts.open():
		if got := b.doubts.take(); len(got) != 1 || got[0] != "one" {
			t.Errorf("took %q", got)
		}
	default:
		t.Error("nobody looks at what was doubted before")
	}
}
