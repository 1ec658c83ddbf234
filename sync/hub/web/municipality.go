package web

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"sportello.example/sync/hub/stats"
)

// summaryDays is how many days the municipality's page shows.
const summaryDays = 14

func (s *Server) municipalityRoutes(e *echo.Echo) {
	e.GET("/", s.overview)
	e.GET("/api/summary", s.summary)
}

// summary is the municipality's page for programs.
func (s *Server) summary(c echo.Context) error {
	sum, err := s.figures.summary(c.Request().Context())
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, sum)
}

// overview is what templates/municipality.html shows.
type overview struct {
	Lang         string
	W            words
	Municipality string
	Summary      stats.Summary
}

func (s *Server) overview(c echo.Context) error {
	sum, err := s.figures.summary(c.Request().Context())
	if err != nil {
		return err
	}
	lang := language(c.Request(), c.QueryParam("lang"))
	var page bytes.Buffer // so that a template that fails does not leave half a page
	if err := s.municipality.ExecuteTemplate(&page, "municipality.html", overview{
		Lang: lang, W: texts[lang], Municipality: s.cfg.Municipality, Summary: sum,
	}); err != nil {
		return err
	}
	c.Response().Header().Set("Content-Language", lang)
	c.Response().Header().Add("Vary", "Accept-Language")
	return c.HTMLBlob(http.StatusOK, page.Bytes())
}

// languages of the municipality's page, the first is for everybody else.
var languages = []string{"it", "en"}

// language chooses the language of a page: the one asked for, else the first that the browser accepts (RFC 9110
// §12.5.4; browsers list the best first), else Italian.
func language(r *http.Request, asked string) string {
	if slices.Contains(languages, asked) {
		return asked
	}
	for part := range strings.SplitSeq(r.Header.Get("Accept-Language"), ",") {
		tag, _, _ := strings.Cut(part, ";")
		base, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(tag)), "-")
		if slices.Contains(languages, base) {
			return base
		}
	}
	return languages[0]
}

// clock shows a time at the municipality's clock, with the date when it is not today.
func (s *Server) clock(t time.Time, w words) string {
	if t.IsZero() {
		return w.Never
	}
	t, now := t.In(s.cfg.Place), s.cfg.Now().In(s.cfg.Place)
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format("15:04:05")
	}
	return t.Format("02/01/2006 15:04")
}

// queue says how many events wait at a box, and since when.
func (s *Server) queue(b stats.Box, w words) string {
	switch {
	case b.Pending < 0:
		return w.NotKnown
	case b.Pending == 0 || b.Oldest.IsZero():
		return strconv.Itoa(b.Pending)
	}
	return fmt.Sprintf("%d, %s %s", b.Pending, w.Since, s.clock(b.Oldest, w))
}

// notes says what somebody should look at, each in a few words.
func notes(b stats.Box, w words) (out []string) {
	for _, n := range []struct {
		count int
		text  counted
	}{{b.Alarms, w.Alarms}, {b.Dead, w.Dead}, {b.Gaps, w.Gaps}, {b.Forks, w.Forks}} {
		if n.count > 0 {
			out = append(out, n.text.of(n.count))
		}
	}
	switch b.Disk {
	case "warn", "high":
		out = append(out, w.DiskHigh)
	case "full":
		out = append(out, w.DiskFull)
	}
	return out
}

// counted is a word that follows a number: for one, and for many.
type counted struct{ one, many string }

func (c counted) of(n int) string {
	if n == 1 {
		return "1 " + c.one
	}
	return strconv.Itoa(n) + " " + c.many
}

// date turns 2026-11-22 into 22/11/2026.
func date(iso string) string {
	t, err := time.Parse(time.DateOnly, iso)
	if err != nil {
		return iso
	}
	return t.Format("02/01/2006")
}

// words are the texts of the municipality's page.
type words struct {
	Title, Intro, AsOf, NoBranches                       string
	DataUpTo, Boxes, Box, Kiosks, Contact, Queue, Status string
	Never, NotKnown, Waiting, Revoked, NotEnrolled, OK   string
	Day, Self, Assisted, Unknown, Total                  string
	Sessions, Papers, NoSessions, Other, OtherLang       string
	Skip, AllBranches                                    string
	Notes, Since, DiskHigh, DiskFull                     string
	Alarms, Dead, Gaps, Forks                            counted
}

var texts = map[string]words{
	"it": {
		Title: "Sportelli nelle sedi", Intro: "Sessioni e fogli stampati per sede e per giorno, negli ultimi 14 giorni.",
		AsOf: "Situazione alle", NoBranches: "Nessuna sede: aggiungerne una con «hub box add».",
		DataUpTo: "dati fino alle", Boxes: "Apparecchi", Box: "Numero", Kiosks: "Postazioni", Contact: "Ultimo contatto",
		Queue: "Eventi in coda", Status: "Stato", Never: "mai", NotKnown: "non noto", Waiting: "in attesa di consegna",
		Revoked: "escluso", NotEnrolled: "non ancora collegato", OK: "collegato",
		Day: "Giorno", Self: "In autonomia", Assisted: "Con assistenza", Unknown: "Non noto", Total: "Totale",
		Sessions: "Sessioni", Papers: "Fogli", NoSessions: "Nessuna sessione in questi giorni.", Other: "English", OtherLang: "en",
		Skip: "Vai al contenuto", AllBranches: "Tutte le sedi",
		Notes: "Da controllare", Since: "dalle", DiskHigh: "disco quasi pieno", DiskFull: "disco pieno",
		Alarms: counted{"avviso aperto", "avvisi aperti"}, Dead: counted{"evento non consegnabile", "eventi non consegnabili"},
		Gaps: counted{"lacuna", "lacune"}, Forks: counted{"diramazione: disco copiato o ripristinato", "diramazioni: disco copiato o ripristinato"},
	},
	"en": {
		Title: "Kiosks in the branches", Intro: "Sessions and printed sheets by branch and day, in the last 14 days.",
		AsOf: "As of", NoBranches: "No branches: add one with “hub box add”.",
		DataUpTo: "data up to", Boxes: "Boxes", Box: "Number", Kiosks: "Kiosks", Contact: "Last contact",
		Queue: "Events queued", Status: "Status", Never: "never", NotKnown: "not known", Waiting: "waiting for delivery",
		Revoked: "revoked", NotEnrolled: "not enrolled yet", OK: "enrolled",
		Day: "Day", Self: "Self-service", Assisted: "Assisted", Unknown: "Not known", Total: "Total",
		Sessions: "Sessions", Papers: "Sheets", NoSessions: "No sessions in these days.", Other: "Italiano", OtherLang: "it",
		Skip: "Skip to content", AllBranches: "All branches",
		Notes: "To look at", Since: "since", DiskHigh: "disk nearly full", DiskFull: "disk full",
		Alarms: counted{"open alarm", "open alarms"}, Dead: counted{"event that cannot be delivered", "events that cannot be delivered"},
		Gaps: counted{"gap", "gaps"}, Forks: counted{"fork: disk copied or put back", "forks: disk copied or put back"},
	},
}
