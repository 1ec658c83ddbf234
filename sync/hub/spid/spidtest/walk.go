package spidtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/html"
)

const maxPage = 1 << 20

// Browser walks pages by their links and forms, without a script. Its client needs a cookie jar, and follows redirects.
type Browser struct {
	Client *http.Client

	URL    *url.URL // of the page it is on
	Status int
	HTML   string
	doc    *html.Node
}

// Open goes to an address.
func (b *Browser) Open(ctx context.Context, address string) error {
	return b.do(ctx, http.MethodGet, address, nil)
}

// Press follows the link or submits the form of the link or button with that id.
func (b *Browser) Press(ctx context.Context, id string) error {
	e := find(b.doc, func(n *html.Node) bool { return attribute(n, "id") == id })
	if e == nil {
		return fmt.Errorf("press %q: not on the page %s (status %d)", id, b.URL.Path, b.Status)
	}
	if e.Data == "a" {
		to, err := b.URL.Parse(attribute(e, "href"))
		if err != nil {
			return fmt.Errorf("press %q: %w", id, err)
		}
		return b.do(ctx, http.MethodGet, to.String(), nil)
	}
	form := e.Parent
	for form != nil && form.Data != "form" {
		form = form.Parent
	}
	if form == nil {
		return fmt.Errorf("press %q: not in a form", id)
	}
	values := url.Values{}
	find(form, func(n *html.Node) bool {
		if n.Data == "input" && attribute(n, "name") != "" {
			values.Add(attribute(n, "name"), attribute(n, "value"))
		}
		return false
	})
	if name := attribute(e, "name"); name != "" {
		values.Set(name, attribute(e, "value"))
	}
	action := attribute(form, "action")
	if a := attribute(e, "formaction"); a != "" {
		action = a
	}
	to, err := b.URL.Parse(action)
	if err != nil {
		return fmt.Errorf("press %q: %w", id, err)
	}
	if strings.EqualFold(attribute(form, "method"), http.MethodPost) {
		return b.do(ctx, http.MethodPost, to.String(), values)
	}
	to.RawQuery = values.Encode()
	return b.do(ctx, http.MethodGet, to.String(), nil)
}

// Text returns the text of the element with that id, with single spaces, and whether there is one.
func (b *Browser) Text(id string) (string, bool) {
	e := find(b.doc, func(n *html.Node) bool { return attribute(n, "id") == id })
	if e == nil {
		return "", false
	}
	var t strings.Builder
	find(e, func(n *html.Node) bool {
		if n.Type == html.TextNode {
			t.WriteString(n.Data)
		}
		return false
	})
	return strings.Join(strings.Fields(t.String()), " "), true
}

func (b *Browser) do(ctx context.Context, method, address string, form url.Values) error {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := b.Client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxPage))
	if err != nil {
		return fmt.Errorf("read %s: %w", req.URL.Path, err)
	}
	doc, err := html.Parse(strings.NewReader(string(raw)))
	if err != nil {
		return fmt.Errorf("read %s: %w", req.URL.Path, err)
	}
	b.URL, b.Status, b.HTML, b.doc = res.Request.URL, res.StatusCode, string(raw), doc
	return nil
}

// find returns the first node, depth first, that match accepts.
func find(n *html.Node, match func(*html.Node) bool) *html.Node {
	if n == nil {
		return nil
	}
	if match(n) {
		return n
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		if f := find(c, match); f != nil {
			return f
		}
	}
	return nil
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// ErrNoCode means that a login ended on a page without a code.
var ErrNoCode = errors.New("no code on the last page")

// Login does what a citizen does with a phone: it opens what the kiosk's QR holds, says that they are in front of it,
// chooses the first identity provider (which must be an IdP of this package), logs in as the invented citizen and
// agrees. It returns the page with the code; Code reads it. client needs a cookie jar.
func Login(ctx context.Context, client *http.Client, startURL, fiscalCode string) (codePageHTML string, err error) {
	b := &Browser{Client: client}
	if err := b.Open(ctx, startURL); err != nil {
		return "", fmt.Errorf("login: %w", err)
	}
	for _, button := range []string{"continue", "idp-0", "citizen-" + fiscalCode, "agree", "send"} {
		if err := b.Press(ctx, button); err != nil {
			return b.HTML, fmt.Errorf("login: %w", err)
		}
	}
	if _, err := Code(b.HTML); err != nil {
		return b.HTML, fmt.Errorf("login: %w", err)
	}
	return b.HTML, nil
}

// Code returns the eight digits on a page with a code, or ErrNoCode.
func Code(codePageHTML string) (string, error) {
	doc, err := html.Parse(strings.NewReader(codePageHTML))
	if err != nil {
		return "", fmt.Errorf("code: %w", err)
	}
	text, _ := (&Browser{doc: doc}).Text("code")
	if text = strings.ReplaceAll(text, " ", ""); len(text) != 8 {
		return "", ErrNoCode
	}
	return text, nil
}
