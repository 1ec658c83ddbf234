package web

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"sportello.example/provisioning/ca"
	"sportello.example/provisioning/enroll"
	"sportello.example/sync/envelope"
	"sportello.example/sync/hub/anpr"
	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/login"
	"sportello.example/sync/hub/pickup"
	"sportello.example/sync/wire"
)

// Logins knows what citizens have done on their phones.
type Logins interface {
	// Result blocks until a login is more than waiting, or until wait has passed.
	Result(ctx context.Context, box uint32, nonceHex string, wait time.Duration) (wire.Login, error)
	// Citizen returns who logged in with a challenge of a box. It fails with login.ErrNobody.
	Citizen(ctx context.Context, box uint32, nonceHex string) (fiscalCode string, err error)
}

// Registry fetches what the national registry knows and certifies. Its errors are anpr.ErrNotRegistered,
// anpr.ErrNotCertifiable and anpr.ErrDown.
type Registry interface {
	// Family lists a person and their registered family, the person first.
	Family(ctx context.Context, fiscalCode string) ([]wire.Member, error)
	// Certificate returns a PDF for the person; the member of their family that it is about is named by its Ref.
	Certificate(ctx context.Context, fiscalCode string, q wire.CertificateRequest) ([]byte, error)
	// Status reports whether the last word with the registry went well, and since when that is so.
	Status() (up bool, since time.Time)
}

const (
	maxLoginWait = 30 * time.Second
	maxNonce     = 64 // characters
)

func (s *Server) boxRoutes(e *echo.Echo) {
	e.Use(noStore)
	e.POST(enroll.PathEnrol, echo.WrapHandler(http.HandlerFunc(s.cfg.Enroll.ServeEnrol)))
	e.POST(enroll.PathRenew, echo.WrapHandler(http.HandlerFunc(s.cfg.Enroll.ServeRenew)))
	e.GET(wire.PathPing, s.boxOnly(s.ping))
	e.POST(wire.PathReport, s.boxOnly(s.report))
	e.POST(wire.PathEvents1, s.boxOnly(s.events1))
	e.POST(wire.PathEvents2, s.boxOnly(s.events2))
	e.GET(wire.PathLogins+":nonce", s.boxOnly(s.login))
	e.GET(wire.PathFamily+":nonce", s.boxOnly(s.family))
	e.POST(wire.PathCertificates, s.boxOnly(s.certificate))
	e.POST(wire.PathCollect, s.boxOnly(s.collect))
	s.stateRoutes(e)
}

func noStore(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Response().Header().Set("Cache-Control", "no-store")
		return next(c)
	}
}

// boxOnly lets a request through that comes from a box which is welcome, and answers with the Problem that its error
// stands for.
func (s *Server) boxOnly(handle func(echo.Context, uint32) error) echo.HandlerFunc {
	return func(c echo.Context) error {
		sub, err := s.cfg.Enroll.Peer(c.Request())
		if err == nil {
			var b fleet.Box
			b, err = s.cfg.Fleet.Admit(c.Request().Context(), sub.Box, sub.KeyID)
			c.Set(branchKey, b.Branch)
		}
		if err == nil {
			err = handle(c, sub.Box)
		}
		for _, p := range problems {
			if errors.Is(err, p.err) {
				if p.status == http.StatusServiceUnavailable || p.status == http.StatusTooManyRequests {
					c.Response().Header().Set("Retry-After", retryAfter)
				}
				return c.JSON(p.status, wire.Problem{Code: p.code})
			}
		}
		return err
	}
}

// retryAfter is how many seconds a box is asked to wait when the hub has too much to do. What waits is stored in less.
const retryAfter = "5"

// errMalformed means that a box sent what is no message.
var errMalformed = errors.New("malformed")

// problems pairs errors with what a box is told.
var problems = []struct {
	err    error
	status int
	code   string
}{
	{ca.ErrExpired, http.StatusForbidden, "expired"},
	{enroll.ErrRevoked, http.StatusForbidden, "revoked"},
	{enroll.ErrGraceOver, http.StatusForbidden, "grace_over"},
	{errMalformed, http.StatusBadRequest, wire.ProblemMalformed},
	{ingest.ErrMalformed, http.StatusBadRequest, wire.ProblemMalformed},
	{envelope.ErrMalformed, http.StatusBadRequest, wire.ProblemMalformed},
	{errMediaType, http.StatusUnsupportedMediaType, wire.ProblemMalformed},
	{errTooLong, http.StatusRequestEntityTooLarge, wire.ProblemMalformed},
	{ingest.ErrBusy, http.StatusServiceUnavailable, wire.ProblemTooMany},
	{login.ErrMalformed, http.StatusBadRequest, wire.ProblemMalformed},
	{login.ErrBusy, http.StatusTooManyRequests, wire.ProblemTooMany},
	{login.ErrNobody, http.StatusNotFound, wire.ProblemLoginUnknown},
	{pickup.ErrNone, http.StatusNotFound, wire.ProblemNoSuchRequest},
	{pickup.ErrTooMany, http.StatusTooManyRequests, wire.ProblemTooMany},
	{anpr.ErrNotRegistered, http.StatusNotFound, wire.ProblemNotRegistered},
	{anpr.ErrNotCertifiable, http.StatusUnprocessableEntity, wire.ProblemNotCertifiable},
	{anpr.ErrDown, http.StatusBadGateway, wire.ProblemRegistryDown},
}

func (s *Server) ping(c echo.Context, box uint32) error {
	r := fleet.Report{Pending: fleet.PendingUnknown}
	if n, err := strconv.Atoi(c.QueryParam("pending")); err == nil && n >= 0 {
		r.Pending = n
	}
	if t, err := strconv.ParseInt(c.QueryParam("time"), 10, 64); err == nil {
		r.Time = time.Unix(t, 0)
	}
	return s.heard(c, box, r)
}

// heard notes that a box was in contact and answers.
func (s *Server) heard(c echo.Context, box uint32, r fleet.Report) error {
	if err := s.cfg.Fleet.Heard(c.Request().Context(), box, r); err != nil {
		// The line is up all the same, and a box can do nothing about the hub's disk.
		s.cfg.Log.ErrorContext(c.Request().Context(), "contact not stored", "err", err)
	}
	up, _ := s.cfg.Registry.Status()
	return c.JSON(http.StatusOK, wire.Ping{Version: wire.Version, Time: s.cfg.Now().UTC(), ANPR: up})
}

func (s *Server) login(c echo.Context, box uint32) error {
	nonce, err := nonceOf(c)
	if err != nil {
		return err
	}
	var wait time.Duration
	if q := c.QueryParam("wait"); q != "" {
		n, err := strconv.ParseUint(q, 10, 16)
		if err != nil {
			return errMalformed
		}
		wait = min(time.Duration(n)*time.Second, maxLoginWait)
	}
	l, err := s.cfg.Logins.Result(c.Request().Context(), box, nonce, wait)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, l)
}

func (s *Server) family(c echo.Context, box uint32) error {
	nonce, err := nonceOf(c)
	if err != nil {
		return err
	}
	who, err := s.cfg.Logins.Citizen(c.Request().Context(), box, nonce)
	if err != nil {
		return err
	}
	members, err := s.cfg.Registry.Family(c.Request().Context(), who)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, wire.Family{Members: members})
}

func (s *Server) certificate(c echo.Context, box uint32) error {
	body, err := readJSON(c)
	if err != nil {
		return err
	}
	var q wire.CertificateRequest
	if err := json.Unmarshal(body, &q); err != nil || len(q.Certificates) == 0 || len(q.Nonce) > maxNonce {
		return errMalformed
	}
	who, err := s.cfg.Logins.Citizen(c.Request().Context(), box, q.Nonce)
	if err != nil {
		return err
	}
	pdf, err := s.cfg.Registry.Certificate(c.Request().Context(), who, q)
	if err != nil {
		return err
	}
	if len(pdf) > wire.MaxDocument {
		return anpr.ErrDown
	}
	if q.Pickup != "" {
		// Whether or not that works, the citizen gets their certificate.
		if err := s.cfg.Requests.Answered(c.Request().Context(), box, q.Pickup); err != nil {
			s.cfg.Log.WarnContext(c.Request().Context(), "request not marked as collected", "err", err, "box", box)
		}
	}
	sum := sha256.Sum256(pdf)
	c.Response().Header().Set("Content-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":") // RFC 9530 §2
	return c.Blob(http.StatusOK, "application/pdf", pdf)
}

func (s *Server) collect(c echo.Context, box uint32) error {
	body, err := readJSON(c)
	if err != nil {
		return err
	}
	var q wire.Collect
	if err := json.Unmarshal(body, &q); err != nil {
		return errMalformed
	}
	r, err := s.cfg.Requests.Collect(c.Request().Context(), box, q.Code)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, r)
}

func nonceOf(c echo.Context) (string, error) {
	n := c.Param("nonce")
	if n == "" || len(n) > maxNonce {
		return "", errMalformed
	}
	return n, nil
}

// readJSON reads a whole message.
func readJSON(c echo.Context) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(c.Response(), c.Request().Body, wire.MaxJSON))
	if err != nil {
		return nil, errMalformed
	}
	return b, nil
}
