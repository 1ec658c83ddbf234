package lan_test

import (
	"context"
	"net/url"
	"strconv"
	"testing"
	"time"

	"sportello.example/appliance/lan/lantest"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

// TestPresence shows that a printer is there when it answers, whatever is announced of it, and that it is found where it
// moved to.
func TestPresence(t *testing.T) {
	t.Parallel()
	l := lantest.New(t)
	printers := l.Printers(t,
		lantest.Config{Host: "p1", N: 11, Name: "Si ferma"},
		lantest.Config{Host: "p2", N: 12, Name: "Senza corrente"},
		lantest.Config{Host: "p3", N: 13, Name: "Cambia porta"},
		lantest.Config{Host: "p4", N: 14, Name: "Cambia indirizzo"},
		lantest.Config{Host: "p5", N: 15, Name: "Dorme"},
		lantest.Config{Host: "p6", N: 16, Name: "Non risponde"},
		lantest.Config{Host: "p7", N: 17, Name: "Senza cavo"},
	)
	b := newBox(t, l, setup{}, adoptAll(t, printers...)...)
	b.online(t, printers...)
	t.Cleanup(func() {
		if t.Failed() {
			for _, d := range b.Devices() {
				t.Logf("%+v", d)
			}
			t.Logf("%+v", b.services)
		}
	})
	is := func(p *lantest.Printer, want staff.Presence) func() bool {
		return func() bool { return b.device(p).Presence == want }
	}
	// works proves that documents go to p.
	works := func(t *testing.T, p *lantest.Printer) {
		t.Helper()
		before := p.Docs(t)
		doc := document(t, p.Instance())
		if err := b.print(t.Context(), p, doc, nil); err != nil {
			t.Fatalf("print: %v", err)
		}
		received(t, p, append(bytesOf(before), doc)...)
	}

	t.Run("switched off and on", func(t *testing.T) {
		t.Parallel()
		p := printers[0]
		began := time.Now()
		p.Stop()
		within(t, "orderly end noticed", began, 5*time.Second, is(p, staff.Unreachable))
		if d := b.device(p); d.State != kiosk.PrinterOffline || d.Name == "" {
			t.Errorf("an adopted printer that says goodbye stays in the list: %+v", d)
		}
		p.Start(t)
		began = time.Now()
		within(t, "back", began, 5*time.Second, is(p, staff.Online))
		works(t, p)
	})
	t.Run("power cut", func(t *testing.T) {
		t.Parallel()
		p := printers[1]
		began := time.Now()
		p.Unplug(t)
		p.Crash()
		within(t, "power cut noticed", began, 10*time.Second, is(p, staff.Unreachable))
		p.Plug(t)
		p.Start(t)
		began = time.Now()
		within(t, "back after a power cut", began, 5*time.Second, is(p, staff.Online))
		works(t, p)
	})
	t.Run("another port, the same UUID", func(t *testing.T) {
		t.Parallel()
		p := printers[2]
		p.Move(t, 8631)
		began := time.Now()
		within(t, "new port", began, 5*time.Second, func() bool {
			d := b.device(p)
			return d.Presence == staff.Online && at(t, d.URI, p)
		})
		works(t, p)
	})
	t.Run("another address", func(t *testing.T) {
		t.Parallel()
		p := printers[3]
		began := time.Now()
		p.Renumber(t, 114)
		within(t, "new address", began, 5*time.Second, func() bool {
			d := b.device(p)
			return d.Presence == staff.Online && at(t, d.URI, p)
		})
		works(t, p)
	})
	t.Run("asleep", func(t *testing.T) {
		t.Parallel()
		p := printers[4]
		until(t, "announced", 30*time.Second, func() bool { return b.has(p.Instance()) })
		p.Deaf(t, true) // it does not defend itself
		p.Freeze()
		talker, said := p.Talker(t, nil), time.Time{}
		until(t, "not announced", 30*time.Second, func() bool {
			if time.Since(said) > time.Second { // Avahi may still be telling that it has begun
				said = time.Now()
				if err := talker.Say(goodbye(t, p, both...)); err != nil {
					t.Error(err)
				}
			}
			return len(b.find(p.Instance())) == 0
		})
		until(t, "asleep", 60*time.Second, is(p, staff.Asleep))
		p.Thaw()
		works(t, p) // though nobody announces it
	})
	t.Run("hangs", func(t *testing.T) {
		t.Parallel()
		p := printers[5]
		began := time.Now()
		p.Freeze()
		within(t, "silence noticed", began, 10*time.Second, func() bool {
			d := b.device(p)
			return d.State == kiosk.PrinterOffline && d.Trouble == kiosk.TroubleUnreachable
		})
		p.Thaw()
		began = time.Now()
		within(t, "answers again", began, 5*time.Second, is(p, staff.Online))
	})
	t.Run("its cable is pulled while it prints", func(t *testing.T) {
		t.Parallel()
		p := printers[6]
		p.Engine(t, "until [ -e go ]; do sleep 0.05; done\n"+lantest.Printed)
		doc := document(t, p.Instance())
		pulled := false
		var s said
		s.on = func(now kiosk.PrintProgress) {
			switch {
			case now.State == kiosk.PrintPrinting && !pulled:
				pulled = true
				p.Unplug(t)
			case now.Trouble == kiosk.TroubleUnreachable:
				p.Release(t, "go") // it prints what it has
				p.Plug(t)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		if err := b.print(ctx, p, doc, s.report); err != nil {
			t.Errorf("print: %v", err)
		}
		if !s.has(kiosk.PrintStopped, kiosk.TroubleUnreachable) {
			t.Errorf("nobody was told: %+v", s.all)
		}
		received(t, p, doc)
	})
}

// at reports whether uri is where p is, by IPv4 or IPv6.
func at(t *testing.T, uri string, p *lantest.Printer) bool {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port() == strconv.Itoa(p.Port()) && (u.Hostname() == p.Addr().String() || u.Hostname() == p.Addr6().String())
}

func bytesOf(docs []lantest.Doc) [][]byte {
	var all [][]byte
	for _, d := range docs {
		all = append(all, d.Bytes)
	}
	return all
}
