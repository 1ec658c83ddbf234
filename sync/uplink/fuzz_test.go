package uplink

import (
	"net/http"
	"testing"
	"time"

	"sportello.example/sync/desired"
	"sportello.example/sync/wire"
)

func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for _, s := range []string{
		"", "0", "120", "-1", "99999999999999999999", "1e9", " 5 ", "soon", now.Add(time.Minute).Format(http.TimeFormat),
		"Sunday, 22-Nov-26 10:01:00 GMT", "Sun Nov 22 10:01:00 2026", "Sun, 22 Nov 9999 10:01:00 GMT",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, field string) {
		if d := retryAfter(field, now); d < 0 || d > maxRetryAfter {
			t.Errorf("%q means to wait for %v", field, d)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(200, "application/json", []byte(`{"acks":[]}`))
	f.Add(404, "application/json", []byte(`{"code":"not_registered"}`))
	f.Add(200, "application/json", []byte(`{"body":"QQ==","sig":"QQ=="}`))
	f.Add(502, "text/html", []byte(`<html>`))
	f.Fuzz(func(t *testing.T, status int, kind string, body []byte) {
		a := answer{status: status, kind: kind, body: body}
		var r wire.Reply
		var s desired.Signed
		var p wire.Ping
		for _, out := range []any{&r, &s, &p} {
			if err := a.decode(out); (err == nil) && (status != http.StatusOK || kind != "application/json") {
				t.Errorf("%d %s %q was taken for an answer", status, kind, body)
			}
		}
	})
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/10", "bytes 5-9/*", "bytes */10", "bytes -5-9/10", "items 0-9/10", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, field string) {
		if first, ok := rangeStart(field); ok && first < 0 {
			t.Errorf("%q begins at %d", field, first)
		}
	})
}
