package web_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/stats"
	"sportello.example/sync/wire"
)

// answer is an HTTP answer that was read to its end.
type answer struct {
	code   int
	header http.Header
}

// get fetches a public page; header holds pairs of names and values.
func (h *hub) get(t *testing.T, path string, header ...string) (answer, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.public.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return answer{resp.StatusCode, resp.Header}, string(b)
}

func TestMunicipality(t *testing.T) {
	h := start(t)
	if _, page := h.get(t, "/"); !strings.Contains(page, "Nessuna sede") {
		t.Errorf("without branches:\n%s", page)
	}
	harar, _ := h.enrol(t, "Biblioteca <Harar>")
	box := h.queue(t, 1)
	box.Now = box.Now.Add(-time.Hour)
	box.Put(t, event.Event{Kind: event.SessionStarted, Session: "a", Detail: event.Detail{Mode: "assisted"}})
	box.Put(t, event.Event{Kind: event.PrintDone, Session: "a", Detail: event.Detail{Pages: 41}})
	box.PutEntry(box.Chain(envelope.Stats), envelope.Entry{Missing: &envelope.Missing{Count: 5, Reason: envelope.Damaged, Hash: envelope.Hash{1}}})
	if _, err := harar.Deliver(t.Context(), box.Batch()); err != nil {
		t.Fatal(err)
	}
	if _, err := harar.Report(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.set(func() { h.now = h.now.Add(time.Second) }) // the figures may be half a second old
	for _, tt := range []struct {
		name, path, accept, lang string
		want                     []string
	}{
		{"Italian is for everybody", "/", "", "it", []string{"Comune di Prova", "dati fino alle <strong>09:00:00", "3, dalle 09:00:00", "1 avviso aperto", "2 eventi non consegnabili", "1 lacuna", "Con assistenza", "<td>41</td>", "22/11/2026", "Biblioteca &lt;Harar&gt;"}},
		{"what the browser accepts", "/", "de, en-GB;q=0.8, it;q=0.5", "en", []string{"data up to", "Assisted", "3, since 09:00:00", "1 open alarm", "2 events that cannot be delivered", "1 gap"}},
		{"a browser that accepts neither", "/", "de", "it", nil},
		{"what was asked for", "/?lang=en", "it", "en", []string{"Self-service"}},
		{"a language there is not", "/?lang=xx", "en", "en", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, page := h.get(t, tt.path, "Accept-Language", tt.accept)
			if resp.code != 200 || !strings.Contains(page, `<html lang="`+tt.lang+`">`) || resp.header.Get("Content-Language") != tt.lang {
				t.Errorf("%d, %s", resp.code, page)
			}
			for _, w := range tt.want {
				if !strings.Contains(page, w) {
					t.Errorf("no %q in\n%s", w, page)
				}
			}
			if strings.Contains(page, "style=") || strings.Contains(page, "<script>") || strings.Contains(page, " onclick") || strings.Contains(page, "<Harar>") {
				t.Errorf("inline code or unescaped text in\n%s", page)
			}
		})
	}
	t.Run("the same for programs", func(t *testing.T) {
		resp, body := h.get(t, "/api/summary")
		var s stats.Summary
		if err := json.Unmarshal([]byte(body), &s); err != nil || resp.code != 200 {
			t.Fatalf("%d, %v", resp.code, err)
		}
		if s.Total.Assisted != (stats.Figures{Sessions: 1, Papers: 41}) || len(s.Branches) != 1 || s.Branches[0].Boxes[0].Pending != 3 || s.Branches[0].Days[0].Date != "2026-11-22" {
			t.Errorf("got %+v", s)
		}
	})
}

func TestPublic(t *testing.T) {
	h := start(t)
	for _, tt := range []struct {
		name, path, host string
		status           int
	}{
		{"page", "/", "", 200},
		{"style", "/static/municipality.css", "", 200},
		{"script", "/static/municipality.js", "", 200},
		{"icon", "/static/icon.svg", "", 200},
		{"templates are not served", "/static/../templates/municipality.html", "", 404},
		{"nothing else", "/etc/passwd", "", 404},
		{"the box interface is elsewhere", wire.PathPing, "", 404},
		{"another host", "/", "attacker.example", 421},
		{"another port", "/", "127.0.0.1:1", 421},
		{"another host asks for health", "/healthz", "10.0.0.1", 200},
		{"static files under another host", "/static/municipality.css", "attacker.example", 421},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var header []string
			if tt.host != "" {
				header = []string{"Host", tt.host}
			}
			resp, body := h.get(t, tt.path, header...)
			if resp.code != tt.status {
				t.Errorf("got %d %.200s, want %d", resp.code, body, tt.status)
			}
			if tt.status == 200 {
				if csp := resp.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
					t.Errorf("policy %q", csp)
				}
			}
		})
	}
}
