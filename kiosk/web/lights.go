package web

import (
	"time"

	"github.com/labstack/echo/v4"

	"sportello.example/kiosk"
	"sportello.example/kiosk/locale"
	"sportello.example/sync/health"
)

// light is one of the four lights, in words.
type light struct {
	Name  string // network | hub | registry | printer
	State string // up | slow | down | unknown
	Text  string
	Since string
}

type lights struct {
	all     []light
	summary string // what is wrong, in a few words, or that nothing is
	good    bool
	err     error
}

// lights says how things are. What nobody has tried yet is not called broken.
func (s *Server) lights(l *locale.Language) lights {
	t := &texts{l: l}
	board := s.cfg.Board.Snapshot()
	now := s.cfg.Now()
	ls := lights{good: true}
	show := func(name, state, text string, since time.Time) {
		li := light{Name: name, State: state, Text: text}
		if !since.IsZero() {
			li.Since = t.since(since, now)
		}
		ls.all = append(ls.all, li)
		if state == string(health.Down) {
			if ls.good {
				ls.summary = text
			} else {
				ls.summary = t.t("state.several")
			}
			ls.good = false
		}
	}
	for _, b := range []health.Light{health.Network, health.Hub, health.Registry} {
		st := board[b]
		show(string(b), string(st.State), t.t(joinKey("light", b, st.State)), st.Since)
	}
	p := s.cfg.Printer.Status()
	switch p.State {
	case kiosk.PrinterAttention:
		show("printer", string(health.Down), t.t(joinKey("trouble", trouble(p.Trouble), "short")), p.Since)
	case kiosk.PrinterOffline, kiosk.PrinterNone:
		show("printer", string(health.Down), t.t(joinKey("printer", p.State)), p.Since)
	case kiosk.PrinterReady, kiosk.PrinterBusy:
		show("printer", string(health.Up), t.t(joinKey("printer", p.State)), p.Since)
	default: // nobody has asked it yet
		show("printer", string(health.Unknown), t.t("printer.unknown"), p.Since)
	}
	if ls.good {
		ls.summary = t.t("state.good")
	}
	ls.err = t.err
	return ls
}

// mark names what a page shows of the state of things. Two marks are equal when the pages would look the same.
func (s *Server) mark(v visit, step kiosk.Step) string {
	m := string(v.view.Stage)
	line := "down"
	if v.lineUp {
		line = "up"
	}
	p := s.cfg.Printer.Status()
	printer := joinKey(p.State, p.Trouble)
	printers := func() (all []any) {
		for _, o := range s.cfg.Printer.Printers() {
			all = append(all, o.UUID, o.State, o.Trouble)
		}
		return append(all, v.view.Printer)
	}
	registry := string(s.cfg.Board.Status(health.Registry).State)
	hub := string(s.cfg.Board.Status(health.Hub).State)
	switch step {
	case "attract", kiosk.StepNeed, "now", kiosk.StepLogin, kiosk.StepRequest:
		m = joinKey(m, line, hub, registry, printer)
	case kiosk.StepPreview:
		m = joinKey(m, line, hub, registry, printer, joinKey(printers()...))
	case kiosk.StepProblem:
		if pr := v.view.Problem; pr != nil {
			m = joinKey(m, pr.Kind, pr.Waiting)
			if pr.Kind == kiosk.ProblemPrinter {
				m = joinKey(m, joinKey(printers()...))
			}
		}
	case kiosk.StepCertificate:
		m = joinKey(m, line)
	case kiosk.StepQR:
		m = joinKey(m, line, v.view.LoginEnded, v.view.QR != "" && s.qrLive(v.view))
	case kiosk.StepIdentity:
		m = joinKey(m, line, v.view.Masked != "", v.view.LoginEnded, s.late(v.view))
	case kiosk.StepPreparing:
		m = joinKey(m, s.late(v.view))
	case kiosk.StepPrinting:
		m = joinKey(m, v.view.Progress.State, v.view.Progress.Page, v.view.Progress.Trouble)
	}
	return m
}

// lateAfter is how long a page waits before it says why nothing happens.
const lateAfter = 15 * time.Second

func (s *Server) late(v kiosk.View) bool { return s.cfg.Now().Sub(v.Since) >= lateAfter }

func (s *Server) qrLive(v kiosk.View) bool { return s.cfg.Now().Sub(v.QRShown) < kiosk.QRLife }

// lineBanner says that the line is down, since when, and what can be done all the same; "" while it is up.
func (s *Server) lineBanner(l *locale.Language, v visit) (string, error) {
	if v.lineUp {
		return "", nil
	}
	t := &texts{l: l}
	since := t.since(s.cfg.Board.Status(health.Hub).Since, s.cfg.Now())
	return t.t("line.down", "since", since), t.err
}

// now says what works at this moment, and what can be done when something does not.
func (s *Server) now(c echo.Context) error {
	v, err := s.visit(c)
	if err != nil {
		return err
	}
	p := s.page(c, v, "now")
	ls := s.lights(p.lang)
	if p.Banner, err = s.lineBanner(p.lang, v); err != nil {
		return err
	}
	p.Back = v.here()
	p.Live.Reload = true
	p.Data = nowPage{Lights: ls.all, LineUp: v.lineUp, Printer: s.cfg.Printer.Status().State != kiosk.PrinterOffline && s.cfg.Printer.Status().State != kiosk.PrinterNone}
	return s.render(c, 200, p)
}

// nowPage is what the page about what works shows.
type nowPage struct {
	Lights  []light
	LineUp  bool
	Printer bool // something can come out of it, perhaps after a hand
}

// trouble returns what a printer that needs a hand suffers from, also when it does not say.
func trouble(t kiosk.Trouble) kiosk.Trouble {
	if t == kiosk.TroubleNone {
		return kiosk.TroubleOther
	}
	return t
}
