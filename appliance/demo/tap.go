package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxPage is how large a page of the kiosk may be for the tap to look at it.
const maxPage = 1 << 20

// A tap stands at the kiosk's address in front of the box and watches which page is on the screen, as the camera of a
// phone in the citizen's hand would. It changes nothing: what the box says reaches the browser byte for byte.
type tap struct {
	proxy *httputil.ReverseProxy
	log   *slog.Logger
	now   func() time.Time

	mu      sync.Mutex // guards the field that follows
	screens map[int]screen
}

// screen is what one kiosk shows.
type screen struct {
	Kiosk int       `json:"kiosk"`
	QR    string    `json:"qr"`             // what the QR on it holds, "" when there is none
	Since time.Time `json:"since,omitzero"` // when that came up
}

func newTap(box *url.URL, now func() time.Time, log *slog.Logger) *tap {
	t := &tap{log: log, now: now, screens: map[int]screen{}}
	t.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(box)
			r.Out.Host = r.In.Host // the box decides which names are its own
			if _, page := kioskPage(r.In.URL.Path); page != "" {
				r.Out.Header.Del("Accept-Encoding") // the page is read on its way
			}
		},
		FlushInterval:  -1, // live state reaches the screen at once
		ModifyResponse: t.watch,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				t.log.Warn("box does not answer", "err", err)
			}
			// What a browser sees of a box that is off: no answer at all.
			panic(http.ErrAbortHandler)
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return t
}

func (t *tap) ServeHTTP(w http.ResponseWriter, r *http.Request) { t.proxy.ServeHTTP(w, r) }

// pages are the addresses of a kiosk's pages: /k/1, /k/1/qr …
var pages = regexp.MustCompile(`^/k/([1-9][0-9]?)(/[a-z]*)?/?$`)

// kioskPage returns which kiosk's page a path is, and "" when it is none.
func kioskPage(path string) (kiosk int, page string) {
	m := pages.FindStringSubmatch(path)
	if m == nil {
		return 0, ""
	}
	kiosk, err := strconv.Atoi(m[1])
	if err != nil {
		return 0, ""
	}
	if m[2] == "" || m[2] == "/" {
		return kiosk, "attract"
	}
	return kiosk, m[2][1:]
}

// watch notes which page a kiosk has just been given.
func (t *tap) watch(resp *http.Response) error {
	kiosk, page := kioskPage(resp.Request.URL.Path)
	html := strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html")
	if page == "" || !html || resp.Request.Method != http.MethodGet || resp.StatusCode != http.StatusOK {
		return nil
	}
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxPage))
	if err != nil {
		return fmt.Errorf("read page %s of kiosk %d: %w", page, kiosk, err)
	}
	resp.Body = &joined{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body}
	text, err := readQR(head)
	if err != nil && !errors.Is(err, errNoQR) {
		t.log.Warn("page not understood", "page", page, "err", err)
	}
	t.saw(kiosk, text)
	return nil
}

// joined is a body of which the beginning has been read already.
type joined struct {
	io.Reader
	io.Closer
}

func (t *tap) saw(kiosk int, qr string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, ok := t.screens[kiosk]; ok && old.QR == qr {
		return
	}
	t.screens[kiosk] = screen{Kiosk: kiosk, QR: qr, Since: t.now()}
}

// QR returns the youngest QR that is on a screen, and false when no kiosk shows one.
func (t *tap) QR() (screen, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found screen
	for _, s := range t.screens {
		if s.QR != "" && (found.QR == "" || s.Since.After(found.Since)) {
			found = s
		}
	}
	return found, found.QR != ""
}

// Forget empties every screen: the box was switched off.
func (t *tap) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.screens)
}
