package ipp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/OpenPrinting/goipp"
)

const (
	opValidateJob          = goipp.OpValidateJob
	opCreateJob            = goipp.OpCreateJob
	opSendDocument         = goipp.OpSendDocument
	opCancelJob            = goipp.OpCancelJob
	opGetJobAttributes     = goipp.OpGetJobAttributes
	opGetJobs              = goipp.OpGetJobs
	opGetPrinterAttributes = goipp.OpGetPrinterAttributes
	opIdentifyPrinter      = goipp.OpIdentifyPrinter
)

// Status is an IPP status code (RFC 8011 §5.4.15 and appendix B).
type Status uint16

// The status codes that callers tell apart.
const (
	StatusBadRequest        = Status(goipp.StatusErrorBadRequest)
	StatusNotPossible       = Status(goipp.StatusErrorNotPossible)
	StatusNotFound          = Status(goipp.StatusErrorNotFound)
	StatusGone              = Status(goipp.StatusErrorGone)
	StatusFormat            = Status(goipp.StatusErrorDocumentFormatNotSupported)
	StatusFormatError       = Status(goipp.StatusErrorDocumentFormatError)
	StatusUnprintable       = Status(goipp.StatusErrorDocumentUnprintable)
	StatusValues            = Status(goipp.StatusErrorAttributesOrValues)
	StatusConflict          = Status(goipp.StatusErrorConflicting)
	StatusOperation         = Status(goipp.StatusErrorOperationNotSupported)
	StatusUnavailable       = Status(goipp.StatusErrorServiceUnavailable)
	StatusVersion           = Status(goipp.StatusErrorVersionNotSupported)
	StatusTemporary         = Status(goipp.StatusErrorTemporary)
	StatusNotAcceptingJobs  = Status(goipp.StatusErrorNotAcceptingJobs)
	StatusBusy              = Status(goipp.StatusErrorBusy)
	StatusTooManyJobs       = Status(goipp.StatusErrorTooManyJobs)
	firstError              = 0x0100 // RFC 8011 appendix B.1: below are the successful ones
	maxStatusMessage        = 255
	maxUnsupportedMentioned = 32
)

func (s Status) String() string { return goipp.Status(s).String() }

// StatusError is the printer's refusal of a request. It did nothing of what was asked.
type StatusError struct {
	Op          string
	Status      Status
	Message     string   // the printer's own words, for the log
	Unsupported []string // names of the attributes it objects to
}

func (e *StatusError) Error() string {
	s := e.Op + ": " + e.Status.String()
	if len(e.Unsupported) > 0 {
		s += " " + strings.Join(e.Unsupported, ",")
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// Later reports whether the same request may be accepted after a while.
func (e *StatusError) Later() bool {
	return slices.Contains([]Status{StatusBusy, StatusUnavailable, StatusTemporary, StatusNotAcceptingJobs, StatusTooManyJobs}, e.Status)
}

// IsStatus reports whether err is a *StatusError with one of the codes.
func IsStatus(err error, codes ...Status) bool {
	var se *StatusError
	return errors.As(err, &se) && slices.Contains(codes, se.Status)
}

// request is a message on its way to the printer. Attributes are written in the order RFC 8011 §4.1.4 asks for.
type request struct {
	*goipp.Message
	op goipp.Op
}

func (c *Client) request(op goipp.Op) request {
	m := request{goipp.NewRequest(goipp.Version(c.version.Load()), op, c.id.Add(1)&0x7fffffff), op}
	m.add("attributes-charset", goipp.TagCharset, goipp.String("utf-8"))
	m.add("attributes-natural-language", goipp.TagLanguage, goipp.String("it"))
	m.add("printer-uri", goipp.TagURI, goipp.String(c.cfg.URI))
	if op == opValidateJob || op == opCreateJob {
		m.user(c.cfg.User)
	}
	return m
}

func (m request) add(name string, tag goipp.Tag, v goipp.Value) {
	m.Operation.Add(goipp.MakeAttribute(name, tag, v))
}

func (m request) integer(name string, n int)  { m.add(name, goipp.TagInteger, goipp.Integer(n)) }
func (m request) boolean(name string, b bool) { m.add(name, goipp.TagBoolean, goipp.Boolean(b)) }
func (m request) mime(name, format string)    { m.add(name, goipp.TagMimeType, goipp.String(format)) }
func (m request) keywords(name string, ks ...string) {
	a := goipp.Attribute{Name: name}
	for _, k := range ks {
		a.Values.Add(goipp.TagKeyword, goipp.String(k))
	}
	m.Operation.Add(a)
}

func (m request) user(name string) {
	if name != "" {
		m.add("requesting-user-name", goipp.TagName, goipp.String(name))
	}
}

// ticket adds what Validate-Job and Create-Job say of a job.
func (m request) ticket(t Ticket) {
	m.add("job-name", goipp.TagName, goipp.String(t.Name))
	// What the printer cannot do it shall ignore and name: with fidelity some refuse harmless wishes, some do not answer.
	m.boolean("ipp-attribute-fidelity", false)
	if m.op == opValidateJob {
		m.mime("document-format", t.Format)
	}
	keyword := func(name, v string) {
		if v != "" {
			m.Job.Add(goipp.MakeAttribute(name, goipp.TagKeyword, goipp.String(v)))
		}
	}
	m.Job.Add(goipp.MakeAttribute("copies", goipp.TagInteger, goipp.Integer(1)))
	if t.Size != (Size{}) {
		size := goipp.Collection{
			goipp.MakeAttribute("x-dimension", goipp.TagInteger, goipp.Integer(t.Size.Width)),
			goipp.MakeAttribute("y-dimension", goipp.TagInteger, goipp.Integer(t.Size.Height)),
		}
		m.Job.Add(goipp.MakeAttrCollection("media-col", goipp.MakeAttribute("media-size", goipp.TagBeginCollection, size)))
	}
	keyword("media", t.Media)
	keyword("sides", t.Sides)
	keyword("print-color-mode", t.ColorMode)
	keyword("print-scaling", t.Scaling)
	if t.Quality != 0 {
		m.Job.Add(goipp.MakeAttribute("print-quality", goipp.TagEnum, goipp.Integer(t.Quality)))
	}
}

// answer is what came back.
type answer struct{ *goipp.Message }

func (a answer) unsupported() []string {
	var names []string
	for _, attr := range a.Unsupported {
		if len(names) < maxUnsupportedMentioned {
			names = append(names, text(attr.Name, maxStatusMessage))
		}
	}
	return names
}

func (a answer) jobs() []Job {
	var jobs []Job
	for _, g := range a.AttrGroups() {
		if g.Tag == goipp.TagJobGroup {
			jobs = append(jobs, parseJob(g.Attrs))
		}
	}
	return jobs
}

// exchange sends m, and again with version 1.1 if the printer does not speak 2.0 (RFC 8011 §4.1.8: it then did nothing).
func (c *Client) exchange(ctx context.Context, m request, post func(context.Context, []byte) ([]byte, error)) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	for {
		head, err := m.EncodeBytes()
		if err != nil {
			return answer{}, fmt.Errorf("%v: encode: %w", m.op, err)
		}
		raw, err := post(ctx, head)
		if err != nil {
			return answer{}, m.failed(err, 0)
		}
		a, err := m.read(raw)
		if !IsStatus(err, StatusVersion) || m.Version == goipp.MakeVersion(1, 1) {
			return a, err
		}
		m.Version = goipp.MakeVersion(1, 1)
		c.version.Store(uint32(m.Version))
	}
}

// ask sends a request that changes nothing, on a connection that is kept. If that has died meanwhile, net/http asks again
// on a new one.
func (c *Client) ask(ctx context.Context, m request) (answer, error) {
	return c.exchange(ctx, m, func(ctx context.Context, head []byte) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url.String(), bytes.NewReader(head))
		if err != nil {
			return nil, fmt.Errorf("request: %w", err)
		}
		req.Header.Set("Content-Type", goipp.ContentType)
		req.Header.Set("Accept", goipp.ContentType)
		req.Header.Set("User-Agent", userAgent)
		req.Header["Idempotency-Key"] = []string{} // tells net/http that the question may be asked twice; it is not sent
		resp, err := c.keep.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		defer func() { _ = resp.Body.Close() }()
		return read(resp)
	})
}

// tell sends a request that changes something, on a connection of its own: an old one may have died unnoticed, and
// then nobody would know whether the printer has heard.
func (c *Client) tell(ctx context.Context, m request) (answer, error) {
	return c.exchange(ctx, m, func(ctx context.Context, head []byte) ([]byte, error) {
		l, err := c.open(ctx, c.address)
		if err != nil {
			return nil, err
		}
		defer l.close()
		return l.post(ctx, head, nil, true, nil)
	})
}

// failed says of an exchange that gave no IPP message what is known.
func (m request) failed(err error, sent int64) error {
	for _, known := range []error{ErrKey, ErrAuth, ErrAnswer} {
		if errors.Is(err, known) {
			return fmt.Errorf("%v: %w", m.op, err)
		}
	}
	return &TransportError{Op: m.op.String(), Sent: int(sent), Err: err}
}

// read reads the answer to m.
func (m request) read(raw []byte) (answer, error) {
	a, err := decode(raw)
	if err != nil {
		return answer{}, fmt.Errorf("%v: %w", m.op, err)
	}
	if a.RequestID != m.RequestID {
		return answer{}, fmt.Errorf("%v: %w: it is for request %d, not %d", m.op, ErrAnswer, a.RequestID, m.RequestID)
	}
	if a.Code >= firstError {
		return answer{}, &StatusError{
			Op: m.op.String(), Status: Status(a.Code),
			Message: first(a.Operation, "status-message", maxStatusMessage), Unsupported: a.unsupported(),
		}
	}
	return a, nil
}

// decode reads an answer of at most maxAnswer bytes.
func decode(raw []byte) (answer, error) {
	if err := scan(raw); err != nil {
		return answer{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	var m goipp.Message
	if err := m.DecodeBytes(raw); err != nil {
		return answer{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	if v := m.Version.Major(); v != 1 && v != 2 {
		return answer{}, fmt.Errorf("%w: version %v", ErrAnswer, m.Version)
	}
	return answer{&m}, nil
}
