package lan_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/miekg/dns"

	"sportello.example/appliance/lan/lantest"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// both are the ways to the same printer.
var both = []string{"_ipp._tcp", "_ipps._tcp"}

// impostor announces itself as p from h: it says goodbye for p, and then that p is here.
type impostor struct {
	talker  *lantest.Talker
	goodbye []dns.RR
	here    []dns.RR
}

func newImpostor(t testing.TB, h *lantest.Host, p *lantest.Printer, types ...string) *impostor {
	t.Helper()
	i := &impostor{goodbye: goodbye(t, p, types...)}
	host := h.Name() + ".local."
	for _, typ := range types {
		name := escape(p.Instance()) + "." + typ + ".local."
		i.here = append(
			i.here, record(t, typ+".local.", "PTR "+name), flush(record(t, name, "SRV 0 0 631 "+host)),
			flush(record(t, name, `TXT "txtvers=1" "rp=ipp/print" "pdl=application/pdf" "TLS=1.2" "UUID=`+p.UUID()+`"`)))
	}
	i.here = append(i.here, flush(record(t, host, "A "+h.Addr().String())))
	i.talker = h.Talker(t, func(q dns.Question) [][]dns.RR {
		for _, rr := range i.here {
			if q.Name == rr.Header().Name {
				return [][]dns.RR{i.here} // to whoever asks for any of it
			}
		}
		return nil
	})
	return i
}

// goodbye is what p says when it is switched off (RFC 6762 §10.1).
func goodbye(t testing.TB, p *lantest.Printer, types ...string) []dns.RR {
	t.Helper()
	var rrs []dns.RR
	for _, typ := range types {
		name := escape(p.Instance()) + "." + typ + ".local."
		rrs = append(rrs, lifeless(record(t, typ+".local.", "PTR "+name)), lifeless(record(t, name, "SRV 0 0 631 "+p.Name()+".local.")))
	}
	return rrs
}

func lifeless(rr dns.RR) dns.RR {
	rr.Header().Ttl = 0
	return rr
}

// flush says that no other record of this name counts (RFC 6762 §10.2).
func flush(rr dns.RR) dns.RR {
	rr.Header().Class |= 1 << 15
	return rr
}

// takeOver repeats the lie until the test ends.
func (i *impostor) takeOver(t testing.TB) {
	t.Helper()
	background(t, func(ctx context.Context) error {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			if err := errors.Join(i.talker.Say(i.goodbye), i.talker.Say(i.here)); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	})
}

// TestImpostor has strangers say that they are an adopted printer. They learn nothing, and the document comes out where
// it should.
func TestImpostor(t *testing.T) {
	t.Parallel()
	l := lantest.New(t)
	printers := l.Printers(t,
		lantest.Config{Host: "p1", N: 11, Name: "Stampante anagrafe"},
		lantest.Config{Host: "p2", N: 12, Name: "Stampante prestiti"},
		lantest.Config{Host: "p3", N: 13, Name: "Stampante spenta"},
	)
	// heard checks that nothing was said to a stranger but the beginning of TLS, which says nothing of anybody.
	heard := func(t *testing.T, trap *lantest.Trap, secure bool) {
		t.Helper()
		said, calls := trap.Heard()
		t.Logf("the impostor got %d connections and %d bytes", calls, len(said))
		if secure && len(said) > 0 {
			t.Errorf("said to an impostor: %q", said)
		}
		// Record type handshake, version 3.x (RFC 8446 §5.1).
		if !secure && len(said) > 0 && (said[0] != 0x16 || said[1] != 3 || bytes.Contains(said, []byte("HTTP/1.1"))) {
			t.Errorf("said to an impostor in the clear: %q", said)
		}
	}
	for i, tt := range []struct {
		name   string
		secure bool
		types  []string
	}{
		{"with a key of its own", true, both},
		{"without TLS", false, []string{"_ipp._tcp"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := printers[i]
			b := newBox(t, l, setup{}, adopt(t, p))
			b.online(t, p)
			until(t, "announced", 30*time.Second, func() bool { return b.has(p.Instance()) })
			rogue := l.Host(t, "rogue"+p.Name(), 61+i)
			trap := rogue.Trap(t, 631, tt.secure)
			lie := newImpostor(t, rogue, p, tt.types...)
			began := time.Now()
			lie.takeOver(t)
			within(t, "alarm", began, 5*time.Second, func() bool { return len(b.alarms.List()) > 0 })
			doc := document(t, p.Instance())
			if err := b.print(t.Context(), p, doc, nil); err != nil {
				t.Errorf("print: %v", err)
			}
			received(t, p, doc)
			if d := b.device(p); d.Presence != staff.Online || !at(t, d.URI, p) {
				t.Errorf("device %+v", d)
			}
			heard(t, trap, tt.secure)
			// The lie went on all the time.
			alarms := b.alarms.List()
			if len(alarms) != 1 || alarms[0].Kind != staff.AlarmDuplicate || alarms[0].Subject != p.UUID() ||
				!bytes.Contains([]byte(alarms[0].New), []byte(rogue.Addr().String())) {
				t.Errorf("alarms %+v, want one that names %v", alarms, rogue.Addr())
			}
		})
	}
	t.Run("at the printer's address", func(t *testing.T) {
		t.Parallel()
		p := printers[2]
		b := newBox(t, l, setup{}, adopt(t, p))
		b.online(t, p)
		p.Unplug(t)
		p.Crash()
		rogue := l.Host(t, "rogue", 13)
		trap := rogue.Trap(t, 631, true)
		lie := newImpostor(t, rogue, p, both...)
		lie.takeOver(t)
		until(t, "seen through", 60*time.Second, func() bool {
			rogue.ClaimAddress(t)
			return b.device(p).Presence == staff.WrongIdentity
		})
		err := b.print(t.Context(), p, document(t, "segreto"), nil)
		if got := ended(err); got != "identity nothing_printed" {
			t.Errorf("ended with %s: %v", got, err)
		}
		heard(t, trap, true)
		alarms := b.alarms.List()
		if len(alarms) != 1 || alarms[0].Kind != staff.AlarmKey || alarms[0].Subject != p.UUID() {
			t.Errorf("alarms %+v, want one about the key", alarms)
		}
		if d := b.device(p); d.State == kiosk.PrinterReady {
			t.Errorf("device %+v", d)
		}
	})
}
