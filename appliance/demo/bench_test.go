package main

import (
	"testing"
)

// BenchmarkVisits plays visits that print a blank self-declaration, and reports what the box's memory does meanwhile:
// "go test -bench Visits -benchtime 1000x ./appliance/demo".
func BenchmarkVisits(b *testing.B) {
	s := town(b)
	ctx := b.Context()
	idle := s.box.Status().RSSKiB
	v, err := newVisitor(s.addr.kiosk)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		err := v.begin(ctx)
		if err == nil {
			err = v.say(ctx,
				answer{"need", answers{"choice": "declaration"}, "facts"},
				answer{"facts", answers{"fact": "residence"}, "fill"},
				answer{"fill", answers{"choice": "blank"}, "review"})
		}
		if err == nil {
			err = v.submit(ctx, nil)
		}
		if err == nil {
			_, err = v.preview(ctx)
		}
		if err == nil {
			goHome(b, v)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(idle)/1024, "MiB-idle")
	b.ReportMetric(float64(s.box.Status().RSSKiB)/1024, "MiB-after")
}
