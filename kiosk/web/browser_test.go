package web

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// browser is somebody at a kiosk whose browser runs no script: it follows links and sends the forms of the page it is on.
type browser struct {
	t      testing.TB
	client *http.Client
	base   string // http://host
	at     *url.URL
	status int
	header http.Header
	body   string
	doc    *html.Node
}

// browse opens the pages of a branch over a real connection.
func (b *branch) browse() *browser {
	b.t.Helper()
	srv := httptest.NewServer(b.web.Handler())
	b.t.Cleanup(srv.Close)
	return another(b.t, srv.URL)
}

func another(t testing.TB, base string) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t: t, client: &http.Client{Jar: jar, Timeout: 20 * time.Second}, base: base}
}

func (w *browser) do(req *http.Request) {
	w.t.Helper()
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		w.t.Fatal(err)
	}
	w.at, w.status, w.header, w.body = resp.Request.URL, resp.StatusCode, resp.Header, string(body)
	if w.doc, err = html.Parse(strings.NewReader(w.body)); err != nil {
		w.t.Fatal(err)
	}
}

// open follows an address.
func (w *browser) open(path string) {
	w.t.Helper()
	req, err := http.NewRequest(http.MethodGet, w.base+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.do(req)
}

// send sends a form to an address, as pairs of name and value.
func (w *browser) send(path string, pairs ...string) {
	w.t.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	req, err := http.NewRequest(http.MethodPost, w.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w.do(req)
}

// press presses the button of the page's main form that has this name and value, with the form as it is, and fields
// changed as said.
func (w *browser) press(name, value string, fields ...string) {
	w.t.Helper()
	for form := range find(w.doc, "form") {
		var button *html.Node
		for b := range find(form, "button") {
			if name == "" && attr(b, "name") == "" || name != "" && attr(b, "name") == name && attr(b, "value") == value {
				button = b
				break
			}
		}
		if button == nil || attr(form, "method") != "post" {
			continue
		}
		var pairs []string
		for in := range find(form, "input") {
			kind := attr(in, "type")
			if (kind == "checkbox" || kind == "radio") && !has(in, "checked") {
				continue
			}
			changed := false
			for i := 0; i < len(fields); i += 2 {
				changed = changed || fields[i] == attr(in, "name")
			}
			if !changed {
				pairs = append(pairs, attr(in, "name"), attr(in, "value"))
			}
		}
		if name != "" {
			pairs = append(pairs, name, value)
		}
		w.send(attr(form, "action"), append(pairs, fields...)...)
		return
	}
	w.t.Fatalf("no button %s=%s on %s:\n%s", name, value, w.at, w.text())
}

// on checks which page the browser is on.
func (w *browser) on(page string) {
	w.t.Helper()
	if got := strings.TrimPrefix(w.at.Path, "/k/1"); got != page {
		w.t.Fatalf("on page %q (%d), want %q:\n%s", got, w.status, page, w.text())
	}
}

// says checks that a text stands on the page.
func (w *browser) says(text string) {
	w.t.Helper()
	if !strings.Contains(w.text(), text) {
		w.t.Errorf("%s does not say %q:\n%s", w.at, text, w.text())
	}
}

// text returns what a reader reads on the page.
func (w *browser) text() string {
	for m := range find(w.doc, "body") {
		return strings.Join(strings.Fields(textOf(m)), " ")
	}
	return ""
}

func textOf(n *html.Node) string {
	if n.Type == html.TextNode {
		return n.Data
	}
	var b strings.Builder
	for c := range n.ChildNodes() {
		b.WriteString(textOf(c) + " ")
	}
	return b.String()
}

func find(n *html.Node, tag string) func(func(*html.Node) bool) {
	return func(yield func(*html.Node) bool) {
		for d := range n.Descendants() {
			if d.Type == html.ElementNode && d.Data == tag && !yield(d) {
				return
			}
		}
	}
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func has(n *html.Node, name string) bool {
	for _, a := range n.Attr {
		if a.Key == name {
			return true
		}
	}
	return false
}
