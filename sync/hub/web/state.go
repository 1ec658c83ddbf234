package web

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"sportello.example/sync/hub/content"
	"sportello.example/sync/wire"
)

// maxStateWait is for how long a box may have a request held. Municipal proxies cut what is silent for a minute.
const maxStateWait = 55 * time.Second

// branchKey is under which a request's context holds the branch of the box that it is from.
const branchKey = "branch"

func (s *Server) stateRoutes(e *echo.Echo) {
	if s.cfg.Content == nil {
		return
	}
	e.GET(wire.PathState, s.boxOnly(s.state))
	e.GET(wire.PathBlobs+":sha256", s.boxOnly(s.blob))
}

// state answers with the document that the box is to follow. With Prefer: wait (RFC 7240 §4.3) the answer to a box that
// has it already comes when there is another, or when that time is over.
func (s *Server) state(c echo.Context, box uint32) error {
	branch, _ := c.Get(branchKey).(string)
	r, h := c.Request(), c.Response().Header()
	wait := min(preferredWait(r.Header.Values("Prefer")), maxStateWait)
	if wait > 0 {
		patient(c, wait+answerLimit)
		h.Set("Preference-Applied", "wait="+strconv.Itoa(int(wait/time.Second)))
	}
	a, err := s.cfg.Content.State(r.Context(), box, branch, strings.Join(r.Header.Values("If-None-Match"), ","), wait)
	if err != nil {
		return err
	}
	h.Set("ETag", a.ETag)
	if a.Same {
		h.Del("Cache-Control") // nothing to store; a box that is idle asks 1,500 times a day
		return c.NoContent(http.StatusNotModified)
	}
	return c.JSON(http.StatusOK, a.Signed)
}

const (
	answerLimit = time.Minute   // for sending a document
	blobLimit   = 2 * time.Hour // for sending a file: who is slower asks for the rest of it
)

// patient gives a request that is not answered at once so long; the server's own deadlines would end it, the one for
// reading too.
func patient(c echo.Context, limit time.Duration) {
	control := http.NewResponseController(c.Response().Writer)
	_ = control.SetReadDeadline(time.Time{})            // a recorder in a test has none
	_ = control.SetWriteDeadline(time.Now().Add(limit)) //nolint:forbidigo // a deadline of the system's
}

// preferredWait reads the preference "wait" in seconds, 0 when there is none (RFC 7240 §2: names are compared without
// case, and the first one counts).
func preferredWait(headers []string) time.Duration {
	for p := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		p, _, _ = strings.Cut(p, ";")
		name, value, _ := strings.Cut(p, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		n, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 32)
		if errors.Is(err, strconv.ErrRange) {
			n = math.MaxInt32
		} else if err != nil {
			return 0
		}
		return time.Duration(n) * time.Second //nolint:gosec // at most 32 bits
	}
	return 0
}

// blob answers with a file that the box's document names, or a part of it (RFC 9110 §14).
func (s *Server) blob(c echo.Context, box uint32) error {
	branch, _ := c.Get(branchKey).(string)
	sum := c.Param("sha256")
	f, err := s.cfg.Content.File(c.Request().Context(), box, branch, sum)
	if errors.Is(err, content.ErrNoItem) {
		return echo.ErrNotFound
	}
	if err != nil {
		return err
	}
	patient(c, blobLimit)
	h := c.Response().Header()
	h.Set("ETag", `"`+f.SHA256+`"`)
	h.Set("Content-Type", "application/octet-stream")
	http.ServeContent(c.Response(), c.Request(), "", time.Time{}, f)
	return nil
}
