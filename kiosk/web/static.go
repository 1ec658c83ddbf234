package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"html/template"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"
)

//go:embed static/*.woff2 static/*.svg static/*.css static/*.js static/*.html
var staticFiles embed.FS

// assetFile is one file that never changes under its address.
type assetFile struct {
	kind   string // media type
	body   []byte
	packed []byte // gzip; nil when it gains nothing
}

// static is everything that pages load.
type static struct {
	files  map[string]assetFile // by fingerprinted name
	names  map[string]string    // name → fingerprinted name
	icons  map[string]template.HTML
	worker []byte
}

// The order matters: a file that names others comes after them.
var staticNames = []string{"tw-400.woff2", "tw-700.woff2", "icon.svg", "kiosk.css", "kiosk.js", "wait.js", "wait.html", "staff.css", "staff.js"}

func loadStatic() (*static, error) {
	st := &static{files: map[string]assetFile{}, names: map[string]string{}}
	for _, name := range staticNames {
		body, err := staticFiles.ReadFile("static/" + name)
		if err != nil {
			return nil, fmt.Errorf("static: %w", err)
		}
		if err := st.add(name, st.link(body)); err != nil {
			return nil, fmt.Errorf("static %s: %w", name, err)
		}
	}
	worker, err := staticFiles.ReadFile("static/sw.js")
	if err != nil {
		return nil, fmt.Errorf("static: %w", err)
	}
	st.worker = st.link(worker)
	icons, err := staticFiles.ReadFile("static/icons.svg")
	if err != nil {
		return nil, fmt.Errorf("static: %w", err)
	}
	st.icons, err = readIcons(icons)
	return st, err
}

// link puts the fingerprinted addresses of files in the place of their names: "@kiosk.css@".
func (st *static) link(body []byte) []byte {
	for name := range st.names {
		body = bytes.ReplaceAll(body, []byte("@"+name+"@"), []byte(st.url(name)))
	}
	return body
}

func (st *static) add(name string, body []byte) error {
	kinds := map[string]string{
		".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
		".woff2": "font/woff2", ".html": "text/html; charset=utf-8",
	}
	ext := path.Ext(name)
	f := assetFile{kind: kinds[ext], body: body}
	if ext != ".woff2" {
		var b bytes.Buffer
		z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
		if err != nil {
			return err
		}
		if _, err := z.Write(body); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		f.packed = b.Bytes()
	}
	sum := sha256.Sum256(body)
	full := strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:5]) + ext
	st.names[name], st.files[full] = full, f
	return nil
}

// url returns the address of a file.
func (st *static) url(name string) string { return "/s/" + st.names[name] }

// readIcons reads the symbols of an SVG file.
func readIcons(file []byte) (map[string]template.HTML, error) {
	var svg struct {
		Symbols []struct {
			ID    string `xml:"id,attr"`
			Inner string `xml:",innerxml"`
		} `xml:"symbol"`
	}
	if err := xml.Unmarshal(file, &svg); err != nil {
		return nil, fmt.Errorf("icons: %w", err)
	}
	icons := map[string]template.HTML{}
	for _, s := range svg.Symbols {
		icons[s.ID] = template.HTML(`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">` + //nolint:gosec // from the program itself
			strings.TrimSpace(s.Inner) + `</svg>`)
	}
	return icons, nil
}

// icon returns an icon, for people who see; what it means stands beside it in words.
func (st *static) icon(name string) (template.HTML, error) {
	i, ok := st.icons[name]
	if !ok {
		return "", fmt.Errorf("no icon %q", name)
	}
	return i, nil
}

func (s *Server) asset(c echo.Context) error {
	f, ok := s.static.files[c.Param("name")]
	if !ok {
		return echo.ErrNotFound
	}
	h := c.Response().Header()
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	body := f.body
	if f.packed != nil {
		h.Set("Vary", "Accept-Encoding")
		if accepts(c.Request(), "gzip") {
			h.Set("Content-Encoding", "gzip")
			body = f.packed
		}
	}
	return c.Blob(http.StatusOK, f.kind, body)
}

func accepts(r *http.Request, coding string) bool {
	return slices.ContainsFunc(strings.Split(r.Header.Get("Accept-Encoding"), ","), func(s string) bool {
		name, q, _ := strings.Cut(strings.TrimSpace(s), ";")
		return name == coding && strings.ReplaceAll(q, " ", "") != "q=0"
	})
}

// serviceWorker keeps the page that the browser shows while the box restarts.
func (s *Server) serviceWorker(c echo.Context) error {
	c.Response().Header().Set("Cache-Control", "no-cache")
	return c.Blob(http.StatusOK, "text/javascript; charset=utf-8", s.static.worker)
}

// screen says how many CSS pixels a millimetre has on the kiosk's screen: sizes on a page are in millimetres.
func (s *Server) screen(c echo.Context) error {
	v, err := s.visit(c)
	if err != nil {
		return err
	}
	mm := s.cfg.Screens[v.kiosk]
	if mm <= 0 {
		mm = DefaultScreen
	}
	c.Response().Header().Set("Cache-Control", "no-cache")
	return c.Blob(http.StatusOK, "text/css; charset=utf-8", []byte(":root{--mm:"+strconv.FormatFloat(1/mm, 'f', 3, 64)+"px}\n"))
}
