package main

import (
	"context"
	"testing"
	"time"
)

// TestKill pulls the box's plug (SIGKILL) at every step of the flow. The kiosk must come back on the attract page,
// no paper may come out twice, and the hub must hear of every visit that a citizen saw begin.
func TestKill(t *testing.T) {
	t.Parallel()
	s := town(t)
	ctx := t.Context()
	ada := citizen1(t, func(p person) bool { return p.Note == "" })
	counted := func() int { return s.State(ctx).Municipality.Total.Sessions }
	papers := func() int { return s.State(ctx).Municipality.Total.Papers }
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	login := func(v *visitor) string {
		t.Helper()
		fail(v.chooseCertificate(ctx, "login"))
		qr, err := v.showQR(ctx)
		fail(err)
		code, err := (&checker{stage: s}).phoneCode(ctx, qr, ada)
		fail(err)
		return code
	}
	preview := func(v *visitor) {
		t.Helper()
		fail(v.typeCode(ctx, login(v), "review"))
		fail(v.submit(ctx, nil))
		_, err := v.preview(ctx)
		fail(err)
	}
	visits, sheetsBefore := counted(), sheets(t, s)
	most := 0 // sheets that may be out at most
	for _, tt := range []struct {
		name  string
		sheet int // that may come out
		reach func(v *visitor)
	}{
		{"first question", 0, func(*visitor) {}},
		{"all answered", 0, func(v *visitor) { fail(v.chooseCertificate(ctx, "login")) }},
		{"QR shown", 0, func(v *visitor) { login(v) }},
		{"code typed", 0, func(v *visitor) {
			code := login(v)
			fail(v.open(ctx, v.base+"/code"))
			fail(v.submit(ctx, answers{"code": code, "action": "enter"}))
		}},
		{"identity accepted", 0, func(v *visitor) { fail(v.typeCode(ctx, login(v), "review")) }},
		{"preparing", 0, func(v *visitor) {
			fail(v.typeCode(ctx, login(v), "review"))
			fail(v.submit(ctx, nil))
		}},
		{"preview", 0, preview},
		{"printing", 1, func(v *visitor) {
			preview(v)
			fail(v.submit(ctx, answers{"action": "print"}))
			time.Sleep(150 * time.Millisecond) // the job is at the printer, the sheet is not out
		}},
		{"printer without paper", 0, func(v *visitor) {
			preview(v)
			turn(t, s, "printer", "paper")
			fail(v.submit(ctx, answers{"action": "print"}))
			time.Sleep(time.Second)
		}},
		{"sheets to take", 1, func(v *visitor) {
			preview(v)
			_, err := v.print(ctx)
			fail(err)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := sheets(t, s)
			v, err := newVisitor(s.addr.kiosk)
			fail(err)
			fail(v.begin(ctx))
			visits++
			tt.reach(v)
			most += tt.sheet
			s.box.Kill()
			start := time.Now()
			fail(s.startBox(ctx))
			for {
				if err := v.open(ctx, v.base); err == nil && v.at("/k/1") {
					break
				}
				if time.Since(start) > 30*time.Second {
					t.Fatalf("the attract page is not back: %s", v.page.name())
				}
				time.Sleep(20 * time.Millisecond)
			}
			t.Logf("attract page %d ms after the plug was back", time.Since(start).Milliseconds())
			turn(t, s, "printer", "ready")
			fail(s.Settled(context.WithoutCancel(ctx)))
			if n := sheets(t, s) - out; n > tt.sheet {
				t.Errorf("%d sheets came out, at most %d was asked for", n, tt.sheet)
			}
			if err := v.open(ctx, v.base+"/preview"); err != nil || v.at("/preview") {
				t.Errorf("the document outlived the box: %s, %v", v.page.name(), err)
			}
		})
	}
	time.Sleep(3 * time.Second) // whatever a printer would still print is out by now
	if n := sheets(t, s) - sheetsBefore; n > most {
		t.Errorf("%d sheets came out, at most %d were asked for", n, most)
	}
	eventually(t, 20*time.Second, "every visit at the hub", func() bool { return counted() == visits })
	if n := papers(); n > sheets(t, s) {
		t.Errorf("the hub counts %d papers, %d sheets are out", n, sheets(t, s))
	}
}
