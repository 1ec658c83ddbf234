package box

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"sportello.example/appliance/dnssd"
	"sportello.example/kiosk"
	"sportello.example/kiosk/staff"
)

func TestWhatDiagnoseSaysOfPrinters(t *testing.T) {
	now := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	risk := func(until time.Time) staff.Adopted {
		return staff.Adopted{Name: "Vecchia", Link: staff.LinkRisk, Risk: &staff.Risk{By: "M. Rossi", Why: "no TLS", At: now.AddDate(0, -6, 0), Until: until}}
	}
	device := func(d staff.Device) func(*diagnosis) {
		d.Name, d.URI, d.Format = "Laser", "ipps://192.0.2.7/ipp/print", "application/pdf"
		return func(is *diagnosis) { is.device(d) }
	}
	for _, tt := range []struct {
		name string
		do   func(*diagnosis)
		want string // the line begins with the first word
		bad  int
	}{
		{"heard others", func(d *diagnosis) { d.heard(dnssd.Heard{Packets: 9, Hosts: 3, Own: true, Asked: 4}) }, "ok 9 packets from 3 hosts", 0},
		{"heard nobody else", func(d *diagnosis) { d.heard(dnssd.Heard{Packets: 4, Own: true, Asked: 4}) }, " no other host was heard", 0},
		{"heard nothing", func(d *diagnosis) { d.heard(dnssd.Heard{Asked: 4}) }, "WRONG our own 4 questions of the last minute did not come back", 1},
		{"asked nothing", func(d *diagnosis) { d.heard(dnssd.Heard{}) }, " nothing was asked", 0},
		{"a risk", func(d *diagnosis) { d.link(risk(now.AddDate(0, 3, 0))) }, "RISK accepted by M. Rossi (no TLS)", 0},
		{"a risk that is over", func(d *diagnosis) { d.link(risk(now.AddDate(0, 0, -1))) }, "WRONG the time is over for which M. Rossi", 1},
		{"with its keys", func(d *diagnosis) { d.link(staff.Adopted{Name: "Laser", Link: staff.LinkTLS}) }, "", 0},
		{"an alarm about a risk", func(d *diagnosis) {
			d.alarm(staff.Alarm{Kind: staff.AlarmRisk, Name: "Vecchia", New: "2026-11-24", At: now})
		}, "WRONG printer Vecchia is spoken to in the clear until 2026-11-24 only", 1},
		{"an alarm about a key", func(d *diagnosis) {
			d.alarm(staff.Alarm{Kind: staff.AlarmKey, Name: "Laser", Old: "aa", New: "bb", At: now})
		}, "WRONG key, Laser (known: aa, now: bb)", 1},
		{"ready", device(staff.Device{Presence: staff.Online, State: kiosk.PrinterReady}), "ok printer Laser is ready at ipps://192.0.2.7/ipp/print", 0},
		{"asleep", device(staff.Device{Presence: staff.Asleep}), "ok printer Laser sleeps", 0},
		{"unreachable", device(staff.Device{Presence: staff.Unreachable, Trouble: kiosk.TroubleUnreachable}), "WRONG printer Laser does not answer", 1},
		{"another machine", device(staff.Device{Presence: staff.WrongIdentity, Trouble: kiosk.TroubleIdentity}), "WRONG another machine or key answers", 1},
		{"somebody's sheet", device(staff.Device{Presence: staff.Online, Blocked: "1", Trouble: kiosk.TroubleBlocked}), "WRONG may still hold a sheet", 1},
		{"out of paper", device(staff.Device{
			Presence: staff.Online, Trouble: kiosk.TroublePaper, Reasons: []staff.Reason{{Keyword: "media-empty", Severity: "error"}},
		}), "WRONG cannot print (paper): media-empty (error)", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			d := &diagnosis{out: &out, now: func() time.Time { return now }}
			tt.do(d)
			begins, says, _ := strings.Cut(tt.want, " ")
			if got := out.String(); !strings.HasPrefix(got, begins) || !strings.Contains(got, says) || d.bad != tt.bad || tt.want == "" && got != "" {
				t.Errorf("%d need a hand: %q, want %q", d.bad, got, tt.want)
			}
			if hint := strings.Contains(out.String(), "\n      → "); hint != (tt.bad > 0) {
				t.Errorf("says what to do: %v", hint)
			}
		})
	}
}
