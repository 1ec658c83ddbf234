package staff

import (
	"crypto/rand"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"sportello.example/kiosk"
	"sportello.example/provisioning/throttle"
)

// How long somebody stays in. On a kiosk's own screen, where anybody may come by, it is short.
const (
	stay      = 8 * time.Hour
	stayIdle  = 30 * time.Minute
	kioskIdle = 2 * time.Minute
	maxInside = 50
	maxName   = 40 // characters
)

// sessionCookie holds the key of a session and the number of the kiosk on whose screen it was begun: "2.KEY", 0 for none.
// The number outlives the session, so that the way in leads back to the kiosk.
const sessionCookie = "staff"

// session is somebody who has entered the staff code. It lives in RAM. The sessions' lock guards it.
type session struct {
	entry
	began, touched time.Time
	said           string
}

// entry is what a session was begun with.
type entry struct {
	by    string // name or initials, as they were typed
	lang  string
	kiosk int
}

// sessions is who is in, by the cookie they hold.
type sessions struct {
	now func() time.Time
	mu  sync.Mutex
	all map[string]*session
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{now: now, all: map[string]*session{}}
}

// begin lets somebody in and returns their cookie. When too many are in, who has not been seen for longest is put out.
func (ss *sessions) begin(e entry) string {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	now := ss.now()
	maps.DeleteFunc(ss.all, func(_ string, s *session) bool { return s.over(now) })
	if len(ss.all) >= maxInside {
		var last string
		for key, s := range ss.all {
			if last == "" || s.touched.Before(ss.all[last].touched) {
				last = key
			}
		}
		delete(ss.all, last)
	}
	key := rand.Text()
	ss.all[key] = &session{entry: e, began: now, touched: now}
	return key
}

func (s *session) over(now time.Time) bool {
	idle := stayIdle
	if s.kiosk > 0 {
		idle = kioskIdle
	}
	return now.Sub(s.began) >= stay || now.Sub(s.touched) >= idle || now.Before(s.began)
}

// find returns who holds a cookie; nil when nobody does any more.
func (ss *sessions) find(key string, touch bool) *session {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s, now := ss.all[key], ss.now()
	if s == nil || s.over(now) {
		delete(ss.all, key)
		return nil
	}
	if touch {
		s.touched = now
	}
	return s
}

func (ss *sessions) view(s *session) entry {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return s.entry
}

func (ss *sessions) end(key string) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.all, key)
}

// say keeps words for the next page.
func (ss *sessions) say(s *session, text string) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s.said = text
}

// hear returns the words kept, once.
func (ss *sessions) hear(s *session) string {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	text := s.said
	s.said = ""
	return text
}

func (ss *sessions) speak(s *session, lang string) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s.lang = lang
}

// kioskNumber reads the number of a kiosk, 0 when it is none.
func kioskNumber(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 999 {
		return 0
	}
	return n
}

// name cleans what somebody typed as their name: it is stored beside what they decide. "" when it cannot be one.
func name(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	n := 0
	for _, r := range text {
		if n++; n > maxName || !unicode.IsPrint(r) {
			return ""
		}
	}
	return text
}

// loginPage is what the way in shows.
type loginPage struct {
	By    string
	Kiosk int
}

func (s *Server) askLogin(w http.ResponseWriter, r *http.Request, v *visit) error {
	if v.session != nil {
		return seeOther(w, r, home)
	}
	return s.showLogin(w, v, http.StatusOK, "", "")
}

func (s *Server) showLogin(w http.ResponseWriter, v *visit, status int, by, wrong string) error {
	p := s.page(v, "login", login)
	p.Data = loginPage{By: by, Kiosk: v.kiosk}
	if wrong != "" {
		p.Error = p.t(wrong)
	}
	if v.kiosk > 0 { // somebody may have pressed the wrong thing and gone
		w.Header().Set("Refresh", "60; url=/k/"+strconv.Itoa(v.kiosk))
	}
	return s.render(w, status, p)
}

// enter lets somebody in who knows the code. One code is checked at a time: it costs the box a good part of a second, and
// who tries many must not get in between the counting.
func (s *Server) enter(w http.ResponseWriter, r *http.Request, v *visit) error {
	v.kiosk = kioskNumber(r.PostForm.Get("kiosk"))
	v.lang = s.cfg.Texts.Language(r.PostForm.Get("lang"))
	by := name(r.PostForm.Get("by"))
	if by == "" {
		return s.showLogin(w, v, http.StatusUnprocessableEntity, "", "staff.login.noname")
	}
	select {
	case s.entering <- struct{}{}:
	case <-r.Context().Done():
		return r.Context().Err()
	}
	err := s.cfg.Door.Enter(throttle.Place(r.RemoteAddr), r.PostForm.Get("code"))
	<-s.entering
	switch key, known := enterWords(err); {
	case err == nil:
	case known:
		status := http.StatusUnprocessableEntity
		if key == "staff.login.locked" {
			status = http.StatusTooManyRequests
		}
		s.cfg.Log.Warn("nobody let in to the staff pages", "err", err)
		return s.showLogin(w, v, status, by, key)
	default:
		return err
	}
	key := s.sessions.begin(entry{by: by, lang: v.lang.Tag, kiosk: v.kiosk})
	setCookie(w, r, strconv.Itoa(v.kiosk)+"."+key)
	return seeOther(w, r, home)
}

// readCookie returns the key of a session, "" when there is none, and the kiosk it was begun at.
func readCookie(r *http.Request) (key string, kiosk int) {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return "", 0
	}
	number, key, _ := strings.Cut(c.Value, ".")
	return key, kioskNumber(number)
}

func setCookie(w http.ResponseWriter, r *http.Request, value string) {
	c := &http.Cookie{
		Name: sessionCookie, Value: value, Path: "/staff", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

func (s *Server) leave(w http.ResponseWriter, r *http.Request, v *visit) error {
	key, _ := readCookie(r)
	s.sessions.end(key)
	setCookie(w, r, "")
	if v.kiosk > 0 {
		return seeOther(w, r, "/k/"+strconv.Itoa(v.kiosk))
	}
	return seeOther(w, r, login)
}

func (s *Server) setLanguage(w http.ResponseWriter, r *http.Request, v *visit) error {
	tag := r.PostForm.Get("lang")
	if !s.cfg.Texts.Has(tag) {
		return kiosk.ErrUnknown
	}
	s.sessions.speak(v.session, tag)
	return seeOther(w, r, home)
}
