package web

import (
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"sportello.example/kiosk"
)

// policy lets a page load from the box only, and run nothing that stands in the page itself.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; " +
	"media-src 'self'; manifest-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types sw"

// guard sets what every answer carries, and turns away requests that other sites make a browser send: forms posted
// from elsewhere (http.CrossOriginProtection) and names that were pointed at the box (DNS rebinding).
func (s *Server) guard(next http.Handler) http.Handler {
	origins := http.NewCrossOriginProtection()
	next = origins.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
		h.Set("Cache-Control", "no-store")
		if !s.ours(r.Host) {
			http.Error(w, "this box does not go by that name", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ours says whether a request that names host is meant for the box. An IP address cannot be pointed elsewhere.
func (s *Server) ours(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return name == "localhost" || net.ParseIP(strings.Trim(name, "[]")) != nil || slices.Contains(s.cfg.Hosts, name) ||
		name != "" && s.cfg.Called != nil && strings.EqualFold(name, s.cfg.Called())
}

// The cookies of a kiosk. Both live as long as the browser's session and are removed when the citizen's ends.
const (
	sessionCookie = "session" // Session.Key
	lookCookie    = "look"    // size and contrast
)

func cookie(c echo.Context, v visit, name, value string) {
	ck := &http.Cookie{
		Name: name, Value: value, Path: v.base(), HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: c.IsTLS(),
	}
	if value == "" {
		ck.MaxAge = -1
	}
	c.SetCookie(ck)
}

// forget removes everything the browser holds of a session. Clear-Site-Data names cookies only: with "storage" the
// browser would forget the waiting page that it shows while the box restarts.
func forget(c echo.Context, v visit) {
	cookie(c, v, sessionCookie, "")
	cookie(c, v, lookCookie, "")
	c.Response().Header().Set("Clear-Site-Data", `"cookies"`)
}

// look is how somebody wants the pages to look.
type look struct {
	Size string // "" | l | xl: ×1, ×1.55, ×2
	Dark bool   // yellow on black
}

func readLook(c echo.Context) look {
	ck, err := c.Cookie(lookCookie)
	if err != nil {
		return look{}
	}
	size, theme, _ := strings.Cut(ck.Value, ".")
	l := look{Size: size, Dark: theme == "dark"}
	if size != "l" && size != "xl" {
		l.Size = ""
	}
	return l
}

func (l look) String() string {
	if l.Dark {
		return l.Size + ".dark"
	}
	return l.Size + "."
}

// setLook changes the size of the text or the contrast.
func (s *Server) setLook(c echo.Context) error {
	v, err := s.visit(c)
	if err != nil {
		return err
	}
	l := readLook(c)
	switch c.FormValue("set") {
	case "size":
		l.Size = map[string]string{"": "l", "l": "xl", "xl": ""}[l.Size]
	case "contrast":
		l.Dark = !l.Dark
	default:
		return kiosk.ErrUnknown
	}
	cookie(c, v, lookCookie, l.String())
	to := c.FormValue("to") // only a page of this kiosk, never another address
	if !strings.HasPrefix(to, v.base()+"/") || strings.ContainsAny(to[1:], "\\:") || strings.Contains(to, "//") {
		to = v.base()
		if v.session != nil {
			to = v.here()
		}
	}
	return seeOther(c, to)
}
