package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/html"
)

// A walker is a browser without a screen: it keeps cookies, reads forms, and sends them as a person would who fills
// them in and presses a button. It knows nothing of the pages but what HTML says.
type walker struct {
	client *http.Client
	page   webPage

	requests int
}

// newWalker returns a walker with an empty cookie jar.
func newWalker() (*walker, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, fmt.Errorf("walker: %w", err)
	}
	return &walker{client: &http.Client{Jar: jar, Timeout: 40 * time.Second}}, nil
}

// A webPage is an HTML page as far as a walker uses it.
type webPage struct {
	url    *url.URL
	status int
	title  string // of its first heading
	text   string // everything visible, white space collapsed
	forms  []webForm
	links  []webLink
	assets []string // addresses of style sheets, scripts, icons and pictures
	body   []byte
}

// name is how messages call the page.
func (p webPage) name() string {
	if p.url == nil {
		return "no page"
	}
	return fmt.Sprintf("%s (%d, %q)", p.url.Path, p.status, p.title)
}

type webLink struct{ href, text string }

type webForm struct {
	action string
	post   bool
	fields []webField
}

// A webField is one control of a form.
type webField struct {
	kind    string // input's type, or button, select, textarea
	name    string
	value   string
	text    string // what stands on a button
	checked bool
	options []string // of a select
}

func (f webField) button() bool { return f.kind == "submit" || f.kind == "image" || f.kind == "button" }

var errPage = errors.New("not the page that was expected")

// open follows a link or types an address.
func (w *walker) open(ctx context.Context, address string) error {
	u, err := w.resolve(address)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return fmt.Errorf("open %s: %w", u.Path, err)
	}
	return w.do(req)
}

// again reloads the page.
func (w *walker) again(ctx context.Context) error { return w.open(ctx, w.page.url.String()) }

// resolve reads an address as the page it stands on would.
func (w *walker) resolve(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("address on %s: %w", w.page.name(), err)
	}
	if w.page.url != nil {
		u = w.page.url.ResolveReference(u)
	}
	return u, nil
}

// answers are what a person chooses and types: name of the control, value.
type answers map[string]string

// submit sends the form that has a control for every answer, as if by its first button or the one that is among the
// answers. What is not answered keeps the value it has on the page.
func (w *walker) submit(ctx context.Context, a answers) error {
	f, ok := w.formFor(a)
	if !ok {
		return fmt.Errorf("%w: %s has no form for %v", errPage, w.page.name(), a.names())
	}
	v, _ := f.fill(a)
	return w.send(ctx, f, v)
}

// formFor returns the first form that has a control for every answer.
func (w *walker) formFor(a answers) (webForm, bool) {
	for _, f := range w.page.forms {
		if _, ok := f.fill(a); ok {
			return f, true
		}
	}
	return webForm{}, false
}

func (a answers) names() []string {
	var n []string
	for name, v := range a {
		if len(v) > 20 {
			v = "…"
		}
		n = append(n, name+"="+v)
	}
	slices.Sort(n)
	return n
}

// fill returns what the form sends with these answers, and false when it has no control for one of them.
func (f webForm) fill(a answers) (url.Values, bool) {
	v := url.Values{}
	used := map[string]bool{}
	pressed := false
	for _, c := range f.fields {
		want, answered := a[c.name]
		switch {
		case c.name == "":
		case c.button():
			if answered && want == c.value {
				v.Add(c.name, c.value)
				used[c.name], pressed = true, true
			}
		case c.kind == "radio":
			if answered && want == c.value || !answered && c.checked {
				v.Set(c.name, c.value)
				used[c.name] = used[c.name] || answered
			}
		case c.kind == "checkbox":
			if c.checked || answered && slices.Contains(strings.Split(want, ","), c.value) {
				v.Add(c.name, c.value)
				used[c.name] = used[c.name] || answered
			}
		case c.kind == "hidden":
			v.Add(c.name, c.value)
			used[c.name] = used[c.name] || answered && want == c.value
		case c.kind == "select":
			if answered && slices.Contains(c.options, want) {
				v.Set(c.name, want)
				used[c.name] = true
			} else {
				v.Set(c.name, c.value)
			}
		case answered:
			v.Set(c.name, want)
			used[c.name] = true
		default:
			v.Add(c.name, c.value)
		}
	}
	for name := range a {
		if !used[name] {
			return nil, false
		}
	}
	if b, ok := f.defaultButton(); ok && !pressed && b.name != "" {
		v.Add(b.name, b.value)
	}
	return v, true
}

// defaultButton is the one that a person means who has filled in the form: one that only says "go on", else the first.
func (f webForm) defaultButton() (webField, bool) {
	for _, c := range f.fields {
		if c.button() && c.name == "" {
			return c, true
		}
	}
	i := slices.IndexFunc(f.fields, webField.button)
	if i < 0 {
		return webField{}, false
	}
	return f.fields[i], true
}

func (w *walker) send(ctx context.Context, f webForm, v url.Values) error {
	u, err := w.resolve(f.action)
	if err != nil {
		return err
	}
	method, body := http.MethodGet, io.Reader(nil)
	if f.post {
		method, body = http.MethodPost, strings.NewReader(v.Encode())
	} else {
		u.RawQuery = v.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return fmt.Errorf("send the form of %s: %w", w.page.name(), err)
	}
	if f.post {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	return w.do(req)
}

// do sends a request, follows redirects, and reads the page.
func (w *walker) do(req *http.Request) error {
	req.Header.Set("Accept", "text/html")
	req.Header.Set("Accept-Language", "it")
	resp, err := w.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask for %s: %w", req.URL.Path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxPage))
	w.requests++
	if err != nil {
		return fmt.Errorf("read %s: %w", resp.Request.URL.Path, err)
	}
	p, err := readPage(b)
	if err != nil {
		return fmt.Errorf("read %s: %w", resp.Request.URL.Path, err)
	}
	p.url, p.status = resp.Request.URL, resp.StatusCode
	w.page = p
	return nil
}

// at says whether the walker is on the page whose address ends like this.
func (w *walker) at(ending string) bool {
	return w.page.url != nil && w.page.status == http.StatusOK && strings.HasSuffix(w.page.url.Path, ending)
}

// expect is an error unless the walker is on that page.
func (w *walker) expect(ending string) error {
	if w.at(ending) {
		return nil
	}
	return fmt.Errorf("%w: want …%s, got %s: %s", errPage, ending, w.page.name(), clip(w.page.text, 300))
}

// until reloads the page ten times a second until ok, for as long as limit: what a page without JavaScript does.
func (w *walker) until(ctx context.Context, limit time.Duration, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		if ok() {
			return nil
		}
		pause(ctx, 100*time.Millisecond)
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %s did not come within %s; the screen shows %s: %s", errPage, what, limit, w.page.name(), clip(w.page.text, 300))
		}
		if err := w.again(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}

// readPage parses an HTML page.
func readPage(b []byte) (webPage, error) {
	p := webPage{body: b}
	root, err := html.Parse(bytes.NewReader(b))
	if err != nil {
		return p, fmt.Errorf("page: %w", err)
	}
	r := pageReader{page: &p, form: -1, byID: map[string]int{}}
	for n := range root.Descendants() { // forms first: a control may stand before the form it belongs to
		if n.Type == html.ElementNode && n.Data == "form" {
			r.newForm(n)
		}
	}
	r.read(root)
	p.text = strings.Join(strings.Fields(r.text.String()), " ")
	return p, nil
}

type pageReader struct {
	page *webPage
	form int // index of the form being read, -1 outside
	next int
	byID map[string]int
	text strings.Builder
}

func nodeAttr(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

func nodeText(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func (r *pageReader) newForm(n *html.Node) {
	f := webForm{}
	f.action, _ = nodeAttr(n, "action")
	method, _ := nodeAttr(n, "method")
	f.post = strings.EqualFold(method, "post")
	if id, ok := nodeAttr(n, "id"); ok {
		r.byID[id] = len(r.page.forms)
	}
	r.page.forms = append(r.page.forms, f)
}

func (r *pageReader) read(n *html.Node) {
	if n.Type == html.TextNode {
		r.text.WriteString(n.Data + " ")
		return
	}
	outer := r.form
	if n.Type == html.ElementNode {
		switch n.Data {
		case "script", "style", "template", "noscript":
			r.asset(n, "src")
			return
		case "form":
			r.form = r.next
			r.next++
		case "h1":
			if r.page.title == "" {
				r.page.title = nodeText(n)
			}
		case "a":
			if href, ok := nodeAttr(n, "href"); ok {
				r.page.links = append(r.page.links, webLink{href, nodeText(n)})
			}
		case "link":
			if rel, _ := nodeAttr(n, "rel"); rel == "stylesheet" || rel == "icon" || rel == "preload" {
				r.asset(n, "href")
			}
		case "img":
			r.asset(n, "src")
		case "input", "button", "select", "textarea":
			r.control(n)
		}
	}
	for c := range n.ChildNodes() {
		r.read(c)
	}
	r.form = outer
}

func (r *pageReader) asset(n *html.Node, name string) {
	if src, ok := nodeAttr(n, name); ok && !strings.HasPrefix(src, "data:") && !slices.Contains(r.page.assets, src) {
		r.page.assets = append(r.page.assets, src)
	}
}

func (r *pageReader) control(n *html.Node) {
	form := r.form
	if id, ok := nodeAttr(n, "form"); ok {
		i, known := r.byID[id]
		if !known {
			return
		}
		form = i
	}
	if _, off := nodeAttr(n, "disabled"); off || form < 0 {
		return
	}
	c := webField{kind: n.Data}
	c.name, _ = nodeAttr(n, "name")
	c.value, _ = nodeAttr(n, "value")
	_, c.checked = nodeAttr(n, "checked")
	kind, _ := nodeAttr(n, "type")
	switch n.Data {
	case "input":
		c.kind = strings.ToLower(kind)
		if c.kind == "button" || c.kind == "reset" {
			return
		}
		if c.checked && c.value == "" || c.value == "" && (c.kind == "checkbox" || c.kind == "radio") {
			c.value = "on"
		}
	case "button":
		c.text = nodeText(n)
		if kind == "button" || kind == "reset" {
			return
		}
	case "textarea":
		c.value = nodeText(n)
	case "select":
		for d := range n.Descendants() {
			if d.Type != html.ElementNode || d.Data != "option" {
				continue
			}
			v, ok := nodeAttr(d, "value")
			if !ok {
				v = nodeText(d)
			}
			_, chosen := nodeAttr(d, "selected")
			if len(c.options) == 0 || chosen {
				c.value = v
			}
			c.options = append(c.options, v)
		}
	}
	r.page.forms[form].fields = append(r.page.forms[form].fields, c)
}
