package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"sportello.example/kiosk"
)

// Times of a stream of live state. The state is looked at every second as well as at every change, because some of it
// changes by waiting only (a QR that gets old).
const (
	streamTick = time.Second
	streamBeat = 8 * time.Second // a stream that says nothing for longer is dead
)

// liveState is what a page is told when it opens the stream and at every change.
type liveState struct {
	Page   string      `json:"page"`   // where the visit belongs now
	Stay   bool        `json:"stay"`   // whether the page that asked may stay
	Mark   string      `json:"mark"`   // see liveness
	State  string      `json:"state"`  // the lights in a few words
	Good   bool        `json:"good"`   //
	Lights []lightJSON `json:"lights"` //
	QR     string      `json:"qr"`     // none | live | old | cancelled | refused | expired
	Print  *printJSON  `json:"print,omitempty"`

	Notices []noticeView `json:"notices"`
}

type lightJSON struct {
	Name  string `json:"name"`
	State string `json:"state"`
	Text  string `json:"text"`
	Since string `json:"since,omitempty"`
}

type printJSON struct {
	State   kiosk.PrintState `json:"state"`
	Page    int              `json:"page"`
	Pages   int              `json:"pages"`
	Trouble kiosk.Trouble    `json:"trouble,omitempty"`
}

// events is the stream of live state (WHATWG HTML §9.2, text/event-stream). ?on= names the page that asks.
func (s *Server) events(c echo.Context) error {
	v, err := s.visit(c)
	if err != nil {
		return err
	}
	on := kiosk.Step(c.QueryParam("on"))
	w := c.Response()
	w.Header().Set(echo.HeaderContentType, "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	control := http.NewResponseController(w.Writer)
	_ = control.SetWriteDeadline(time.Time{}) // a stream is never done writing; a recorder in a test has no deadlines
	w.WriteHeader(http.StatusOK)
	if _, err := fmt.Fprint(w, "retry: 2000\n\n"); err != nil {
		return nil //nolint:nilerr // the browser has gone
	}
	ctx := c.Request().Context()
	tick := time.NewTicker(streamTick)
	defer tick.Stop()
	board, notices := s.cfg.Board.Watch(ctx), s.noticesChanged(ctx)
	var last string
	var said time.Time
	for {
		changed, done := never(), never()
		if v.session != nil {
			changed, done = v.session.Changed(), v.session.Done()
		}
		state, err := json.Marshal(s.liveState(c, &v, on))
		if err != nil {
			return err
		}
		now := s.cfg.Now()
		switch {
		case string(state) != last:
			last, said = string(state), now
			_, err = fmt.Fprintf(w, "event: state\ndata: %s\n\n", state)
		case now.Sub(said) >= streamBeat || now.Before(said):
			said = now
			_, err = fmt.Fprint(w, "event: beat\ndata:\n\n")
		}
		if err != nil {
			return nil //nolint:nilerr // the browser has gone
		}
		w.Flush()
		select {
		case <-ctx.Done():
			return nil
		case <-s.closed.Done():
			return nil
		case <-board:
		case <-notices:
		case <-changed:
		case <-done:
			v.session, v.view = nil, kiosk.View{}
		case <-tick.C:
		}
	}
}

func never() <-chan struct{} { return nil }

// liveState says how things are for a visit. A visit whose session has ended belongs on the attract page.
func (s *Server) liveState(c echo.Context, v *visit, on kiosk.Step) liveState {
	v.lineUp = s.desk.LineUp()
	v.reload()
	l := s.cfg.Texts.Language(s.language(c, *v))
	ls := s.lights(l) // a text that is missing was an error of the page
	st := liveState{Page: v.here(), Mark: s.mark(*v, on), State: ls.summary, Good: ls.good, Stay: s.mayStay(*v, on), QR: "none"}
	for _, li := range ls.all {
		st.Lights = append(st.Lights, lightJSON(li))
	}
	st.Notices, _ = s.notices(l, string(on), v.lineUp) // a text that is missing was an error of the page
	if v.session == nil {
		return st
	}
	switch {
	case v.view.LoginEnded != "":
		st.QR = v.view.LoginEnded
	case v.view.QR != "" && s.qrLive(v.view):
		st.QR = "live"
	case v.view.QR != "":
		st.QR = "old"
	}
	if v.view.Stage == kiosk.StagePrinting {
		st.Print = &printJSON{v.view.Progress.State, v.view.Progress.Page, v.view.Pages, v.view.Progress.Trouble}
	}
	return st
}

// mayStay says whether a page may go on being shown. Pages beside the way (help, language) may, for as long as what
// they were opened from lasts.
func (s *Server) mayStay(v visit, on kiosk.Step) bool {
	switch on {
	case "attract":
		return v.session == nil
	case "goodbye":
		return true // leaves by itself
	case "language", "help", "spid", "now", "kiosks", "error":
		return true
	case "assist", "exit":
		return v.session != nil
	}
	return v.session != nil && v.view.Allows(on, v.lineUp)
}
