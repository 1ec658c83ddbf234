package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"runtime"

	"github.com/labstack/echo/v4"

	"sportello.example/sync/envelope"
	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/wire"
)

// maxUnpacking is how many batches are unpacked and read at the same time: each may take envelope.MaxBatch bytes, and a
// processor is left to who stores what was read before (see package ingest).
var maxUnpacking = min(16, max(1, runtime.GOMAXPROCS(0)-1))

var (
	// errMediaType means that a batch came in a form that the hub does not know.
	errMediaType = errors.New("media type or coding is not known")
	// errTooLong means that a message is longer than the hub reads.
	errTooLong = errors.New("message is too long")
)

// report takes what a box says of itself.
func (s *Server) report(c echo.Context, box uint32) error {
	body, err := readJSON(c)
	if err != nil {
		return err
	}
	var r wire.Report
	if err := json.Unmarshal(body, &r); err != nil || !sound(r) {
		return errMalformed
	}
	return s.heard(c, box, fleet.Report{Pending: r.Queued(), Time: r.Time, Queue: &r})
}

// Limits of a report: it is kept, and shown to people.
const (
	maxStreams  = 256
	maxWord     = 128
	maxSealKeys = 64
)

// sound reports whether a report can be kept: nothing in it is absurd.
func sound(r wire.Report) bool {
	if len(r.Streams) > maxStreams || len(r.SealKeys) > maxSealKeys || r.Epoch != "" && !r.Epoch.Valid() || r.Dead < 0 || r.Gaps < 0 {
		return false
	}
	if y := r.Time.Year(); y < 1970 || y > 9999 {
		return false
	}
	for _, w := range append([]string{r.Clock, r.Release, r.Disk.State}, r.SealKeys...) {
		if len(w) > maxWord {
			return false
		}
	}
	for _, st := range r.Streams {
		if st.Queued < 0 || int64(st.Queued) > envelope.MaxSeq || st.Kept < 0 {
			return false
		}
	}
	return true
}

// events1 takes a batch of a box of the first release.
func (s *Server) events1(c echo.Context, box uint32) error {
	body, err := readJSON(c)
	if err != nil {
		return err
	}
	b, err := ingest.DecodeV1(body)
	if err != nil {
		s.cfg.Log.WarnContext(c.Request().Context(), "batch refused", "err", err, "box", box)
		return err
	}
	ack, err := s.cfg.Ingest.DeliverV1(c.Request().Context(), box, b)
	if errors.Is(err, ingest.ErrGap) {
		s.cfg.Log.ErrorContext(c.Request().Context(), "events of a box are missing", "err", err, "box", box)
		return c.JSON(http.StatusConflict, ack)
	}
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, ack)
}

// events2 takes a batch of envelopes.
func (s *Server) events2(c echo.Context, box uint32) error {
	b, err := s.batch(c)
	if err == nil {
		var reply wire.Reply
		if reply, err = s.cfg.Ingest.Deliver(c.Request().Context(), box, b); err == nil {
			return c.JSON(http.StatusOK, reply)
		}
	}
	if !errors.Is(err, ingest.ErrBusy) && c.Request().Context().Err() == nil {
		s.cfg.Log.WarnContext(c.Request().Context(), "batch refused", "err", err, "box", box)
	}
	return err
}

// batch reads a batch. What arrives is read first, at the speed of the box's line; then few at a time are unpacked.
func (s *Server) batch(c echo.Context) (envelope.Batch, error) {
	req := c.Request()
	if kind, _, err := mime.ParseMediaType(req.Header.Get("Content-Type")); err != nil || kind != wire.TypeBatch {
		return envelope.Batch{}, fmt.Errorf("%w: a batch is %s", errMediaType, wire.TypeBatch)
	}
	coding := req.Header.Get("Content-Encoding")
	if coding != wire.Encoding && coding != "" {
		return envelope.Batch{}, fmt.Errorf("%w: a batch is coded with %s, or not at all", errMediaType, wire.Encoding)
	}
	b, err := io.ReadAll(http.MaxBytesReader(c.Response(), req.Body, envelope.MaxBatch))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return envelope.Batch{}, fmt.Errorf("%w: batch", errTooLong)
	case err != nil:
		return envelope.Batch{}, errMalformed // the box has hung up
	}
	select {
	case s.unpacking <- struct{}{}:
	case <-req.Context().Done():
		return envelope.Batch{}, req.Context().Err()
	}
	defer func() { <-s.unpacking }()
	if coding == wire.Encoding {
		if b, err = wire.Unzip(b, envelope.MaxBatch); err != nil {
			return envelope.Batch{}, fmt.Errorf("%w: %w", errMalformed, err)
		}
	}
	return envelope.ParseBatch(b)
}
