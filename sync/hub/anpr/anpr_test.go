package anpr_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sportello.example/sync/hub/anpr"
	"sportello.example/sync/hub/anpr/anprtest"
	"sportello.example/sync/wire"
)

// clock is a wall clock that the test winds.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func start(t *testing.T) (*anprtest.Server, *anpr.Client, *clock) {
	t.Helper()
	w := &clock{time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
	s, err := anprtest.New(anprtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, &anpr.Client{BaseURL: s.URL() + "/", Now: w.now}, w
}

func code(t *testing.T, name string) string {
	t.Helper()
	for _, c := range anprtest.Citizens() {
		if c.Name == name {
			return c.FiscalCode
		}
	}
	t.Fatalf("no citizen %q", name)
	return ""
}

func TestFamily(t *testing.T) {
	_, c, _ := start(t)
	ms, err := c.Family(t.Context(), code(t, "Marco"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range ms {
		names = append(names, m.Name)
		if m.Ref == "" || strings.Contains(m.Ref, code(t, m.Name)) {
			t.Errorf("ref of %s: %q", m.Name, m.Ref)
		}
	}
	if got := strings.Join(names, " "); got != "Marco Giulia Sofia Nicolò" {
		t.Errorf("got %s", got)
	}
	if _, err := c.Family(t.Context(), code(t, "Karim")); !errors.Is(err, anpr.ErrNotRegistered) {
		t.Errorf("not registered: got %v", err)
	}
	if up, _ := c.Status(); !up {
		t.Error("a refusal is not an outage")
	}
}

func TestMembers(t *testing.T) {
	s, c, _ := start(t)
	of := func(c *anpr.Client, name string) map[string]string {
		ms, err := c.Family(t.Context(), code(t, name))
		if err != nil {
			t.Fatal(err)
		}
		refs := map[string]string{}
		for _, m := range ms {
			refs[m.Name] = m.Ref
		}
		return refs
	}
	marco, giulia := of(c, "Marco"), of(c, "Giulia")
	other := of(&anpr.Client{BaseURL: s.URL()}, "Marco")
	key := []byte("sixteen bytes and more")
	kept := of(&anpr.Client{BaseURL: s.URL(), Key: key}, "Marco")
	for _, tt := range []struct {
		name string
		c    *anpr.Client
		ref  string
		want error
	}{
		{"a child", c, marco["Sofia"], nil},
		{"oneself by ref", c, marco["Marco"], nil},
		{"oneself without one", c, "", nil},
		{"the same child, by the other parent's login", c, giulia["Sofia"], anpr.ErrNotCertifiable},
		{"a ref of another hub", c, other["Sofia"], anpr.ErrNotCertifiable},
		{"a ref of before the restart, with a kept key", &anpr.Client{BaseURL: s.URL(), Key: key}, kept["Sofia"], nil},
		{"a fiscal code instead of a ref", c, code(t, "Sofia"), anpr.ErrNotCertifiable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.c.Certificate(t.Context(), code(t, "Marco"), wire.CertificateRequest{
				Certificates: []string{"residenza"}, Member: tt.ref, Recipient: "private",
			})
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if _, err := (&anpr.Client{BaseURL: s.URL(), Key: []byte("short")}).Family(t.Context(), code(t, "Marco")); err == nil {
		t.Error("a short key is taken")
	}
}

func TestStatusRemembersSinceWhen(t *testing.T) {
	s, c, w := start(t)
	if up, since := c.Status(); up || !since.IsZero() {
		t.Errorf("before the first word: %v since %v", up, since)
	}
	begin := w.t
	for _, step := range []struct {
		down  bool
		since time.Duration
	}{{false, 0}, {false, 0}, {true, 2 * time.Minute}, {true, 2 * time.Minute}, {false, 4 * time.Minute}} {
		s.Down(step.down)
		if err := c.Ping(t.Context()); errors.Is(err, anpr.ErrDown) != step.down {
			t.Errorf("after %v: %v", w.t.Sub(begin), err)
		}
		if up, since := c.Status(); up == step.down || since.Sub(begin) != step.since {
			t.Errorf("after %v: %v since %v", w.t.Sub(begin), up, since.Sub(begin))
		}
		w.t = w.t.Add(time.Minute)
	}
}

// TestAnswers shows what the client makes of services that do not keep to the protocol.
func TestAnswers(t *testing.T) {
	const canary = "CNRFSC80A01Y999X"
	for _, tt := range []struct {
		name, kind, body string
		status           int
		want             error
	}{
		{"not a family", "application/json", `[]`, 200, anpr.ErrDown},
		{"nobody", "application/json", `{"members":[]}`, 200, anpr.ErrDown},
		{"somebody else", "application/json", `{"members":[{"fiscal_code":"X","family_name":"Y"}]}`, 200, anpr.ErrDown},
		{"no name", "application/json", `{"members":[{"fiscal_code":"` + canary + `"}]}`, 200, anpr.ErrDown},
		{"wrong type", "text/html", `{"members":[]}`, 200, anpr.ErrDown},
		{"no content", "application/json", ``, 204, anpr.ErrDown},
		{"too long", "application/json", strings.Repeat(" ", wire.MaxJSON+1), 200, anpr.ErrDown},
		{"a redirect", "application/json", ``, 307, anpr.ErrDown},
		{"404 of a proxy", "text/html", canary, 404, anpr.ErrDown},
		{"404 with another code", "application/json", `{"code":"` + canary + `"}`, 404, anpr.ErrDown},
		{"not registered", "application/json", `{"code":"not_registered"}`, 404, anpr.ErrNotRegistered},
		{"not certifiable", "application/json", `{"code":"not_certifiable"}`, 422, anpr.ErrNotCertifiable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked := 0
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked++
				if strings.Contains(r.URL.String(), canary) {
					t.Error("the fiscal code is in the address")
				}
				w.Header().Set("Content-Type", tt.kind)
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			}))
			defer srv.Close()
			_, err := (&anpr.Client{BaseURL: srv.URL}).Family(t.Context(), canary)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), canary) {
				t.Errorf("the error names the citizen: %v", err)
			}
			if asked != 1 {
				t.Errorf("asked %d times", asked)
			}
		})
	}
}

func TestCertificateTooLarge(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/pdf")
		_, _ = io.WriteString(w, "%PDF-1.7\n"+strings.Repeat("x", wire.MaxDocument))
	}))
	defer srv.Close()
	if _, err := (&anpr.Client{BaseURL: srv.URL}).Certificate(t.Context(), "X", wire.CertificateRequest{}); !errors.Is(err, anpr.ErrDown) {
		t.Errorf("got %v, want %v", err, anpr.ErrDown)
	}
}
