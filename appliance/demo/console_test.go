package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestConsole turns every switch through the console's own pages and looks at what the box makes of it.
func TestConsole(t *testing.T) {
	t.Parallel()
	s := town(t)
	base := "http://" + s.addr.console
	look := func(t *testing.T) state {
		t.Helper()
		var st state
		if _, err := newControl(base).get(t.Context(), "/api/state", &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	post := func(t *testing.T, form url.Values, header map[string]string) (status int, location string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/api/switch", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for k, v := range header {
			if k == "Host" {
				req.Host = v
			}
			req.Header.Set(k, v)
		}
		resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("Location")
	}

	for _, tt := range []struct {
		name string
		to   string
		seen func(state) bool
	}{
		{"line", "cut", func(st state) bool { return st.Line == lineCut && st.Box.Lights["hub"].State == "down" }},
		{"line", "slow", func(st state) bool { return st.Line == lineSlow && st.Box.Lights["hub"].State != "down" }},
		{"line", "up", func(st state) bool { return st.Line == lineUp && st.Box.Lights["hub"].State == "up" }},
		{"registry", "off", func(st state) bool { return st.Registry == off }},
		{"registry", "on", func(st state) bool { return st.Registry == on }},
		{"printer", "paper", func(st state) bool { return st.Printer == printerPaper && st.Box.Printer.Trouble == "paper" }},
		{"printer", "jam", func(st state) bool { return st.Printer == printerJam && st.Box.Printer.Trouble == "jam" }},
		{"printer", "gone", func(st state) bool { return st.Printer == printerGone && st.Box.Printer.State == "offline" }},
		{"printer", "ready", func(st state) bool { return st.Printer == printerReady && st.Box.Printer.State == "ready" }},
		{"hub", "off", func(st state) bool {
			return st.Hub == off && st.Box.Lights["hub"].State == "down" && !st.Municipality.Reachable
		}},
		{"hub", "on", func(st state) bool {
			return st.Hub == on && st.Box.Lights["hub"].State == "up" && st.Municipality.Reachable
		}},
		{"clock", "tomorrow", func(st state) bool { return st.Clock == clockTomorrow && st.Box.Lights["clock"].State == "down" }},
		{"clock", "past", func(st state) bool { return st.Clock == clockPast && st.Box.Reachable }},
		{"clock", "right", func(st state) bool { return st.Clock == clockRight && st.Box.Lights["clock"].State == "up" }},
		{"box", "off", func(st state) bool { return st.BoxPower == off && !st.Box.Reachable }},
		{"box", "on", func(st state) bool {
			return st.BoxPower == on && st.Box.Reachable && st.Box.Lights["hub"].State == "up"
		}},
	} {
		t.Run("switch "+tt.name+" "+tt.to, func(t *testing.T) {
			status, location := post(t, url.Values{"switch": {tt.name}, "to": {tt.to}}, nil)
			if status != http.StatusSeeOther || location != "/" {
				t.Fatalf("got %d to %q, want 303 to /", status, location)
			}
			eventually(t, 30*time.Second, tt.name+" "+tt.to, func() bool { return tt.seen(look(t)) })
		})
	}

	t.Run("a script gets no page", func(t *testing.T) {
		if status, _ := post(t, url.Values{"switch": {"line"}, "to": {"up"}}, map[string]string{"Accept": "application/json"}); status != http.StatusNoContent {
			t.Errorf("got %d", status)
		}
	})
	t.Run("what does not exist cannot be switched", func(t *testing.T) {
		for name, to := range map[string]string{"moon": "on", "line": "wet", "hub": "maybe", "printer": "", "clock": "noon", "registry": "x", "box": "y"} {
			if status, _ := post(t, url.Values{"switch": {name}, "to": {to}}, nil); status != http.StatusBadRequest {
				t.Errorf("%s %s: got %d, want 400", name, to, status)
			}
		}
	})
	t.Run("other sites cannot switch anything", func(t *testing.T) {
		if status, _ := post(t, url.Values{"switch": {"line"}, "to": {"cut"}}, map[string]string{"Sec-Fetch-Site": "cross-site"}); status != http.StatusForbidden {
			t.Errorf("got %d, want 403", status)
		}
		if status, _ := post(t, url.Values{"switch": {"line"}, "to": {"cut"}}, map[string]string{"Host": "evil.example"}); status != http.StatusMisdirectedRequest {
			t.Errorf("got %d, want 421", status)
		}
	})

	get := func(t *testing.T, path string) (int, string, http.Header) {
		t.Helper()
		resp, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b), resp.Header
	}
	t.Run("the page works without script", func(t *testing.T) {
		status, body, header := get(t, "/")
		p, err := readPage([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if status != http.StatusOK || len(p.forms) != 8 || !strings.Contains(body, `<noscript><meta http-equiv="refresh"`) {
			t.Errorf("got %d with %d forms", status, len(p.forms))
		}
		if !strings.Contains(header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf("policy: got %q", header.Get("Content-Security-Policy"))
		}
		for _, c := range citizens() {
			if !strings.Contains(body, c.FiscalCode) {
				t.Errorf("the page does not show %s", c.FiscalCode)
			}
		}
	})
	t.Run("the phone sees no QR before there is one", func(t *testing.T) {
		if status, body, _ := get(t, "/phone"); status != http.StatusOK || !strings.Contains(body, "Nessun QR sullo schermo") {
			t.Errorf("got %d, %s", status, body)
		}
	})
	t.Run("the phone follows no QR that leads elsewhere", func(t *testing.T) {
		s.tap.saw(2, "HTTPS://EVIL.EXAMPLE/P/X")
		defer s.tap.Forget()
		if status, body, _ := get(t, "/phone"); status != http.StatusOK || !strings.Contains(body, "porta altrove") {
			t.Errorf("got %d, %s", status, body)
		}
	})
	t.Run("the phone opens what the screen shows", func(t *testing.T) {
		v, err := newVisitor(s.addr.kiosk)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := v.chooseCertificate(t.Context(), "login"); err != nil {
			t.Fatal(err)
		}
		qr, err := v.showQR(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Get(base + "/phone")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusSeeOther || got != qr {
			t.Errorf("got %s to %q, want 303 to %q", resp.Status, got, qr)
		}
		if err := v.open(t.Context(), v.base+"/code"); err != nil {
			t.Fatal(err)
		}
		if st := look(t); st.Phone.QR != "" {
			t.Errorf("the QR is off the screen, the phone still sees %q", st.Phone.QR)
		}
	})
	t.Run("there is no sheet that is not there", func(t *testing.T) {
		for _, path := range []string{"/sheet/99.png", "/sheet/x.png", "/sheet/1", "/pdf/abc.pdf", "/static/../console.go"} {
			if status, _, _ := get(t, path); status != http.StatusNotFound {
				t.Errorf("%s: got %d, want 404", path, status)
			}
		}
	})
	t.Run("no part has fallen over", func(t *testing.T) {
		for _, p := range look(t).Parts {
			if p.Fell != 0 || !p.Running {
				b, err := json.Marshal(p)
				t.Errorf("%s %v", b, err)
			}
		}
	})
}
