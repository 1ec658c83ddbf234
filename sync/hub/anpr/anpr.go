// Package anpr fetches families and certificates of citizens from the municipality's certificate service, which asks the
// national registry (ANPR) for them.
//
// The municipality's own systems decide how they reach ANPR; what they offer to the hub is this small protocol, JSON over
// HTTPS. A fiscal code is always in a body, never in an address, because addresses are logged.
//
//	GET  {base}/v1/status       → 204
//	POST {base}/v1/family       {"fiscal_code"}
//	                            → 200 {"members": [{"fiscal_code", "name", "family_name", "year_of_birth"}]}
//	                              the person asked for first, then the registered family (D.M. 3 November 2021, art. 2)
//	POST {base}/v1/certificate  {"applicant", "holder", "certificates", "recipient", "exemption", "language"}
//	                            → 200 application/pdf
//	                              applicant and holder are fiscal codes; the rest is as in wire.CertificateRequest
//
// A refusal is 404 {"code": "not_registered"} or 422 {"code": "not_certifiable"}; any other answer means that the service
// is down. The service itself must see to it that the holder is of the applicant's family; the hub does too, because it
// only ever names people that the service has listed.
package anpr

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"sportello.example/sync/wire"
)

// Timeout is how long one question to the service may take.
const Timeout = 15 * time.Second

// maxFamily is how many members of a family are read.
const maxFamily = 50

// Client asks the certificate service. It must not be copied once used; its methods may be called from several
// goroutines and block for at most Timeout (Certificate for somebody else: twice that). No error of it holds anything
// about a citizen.
type Client struct {
	BaseURL string           // of the service, without the /v1
	HTTP    *http.Client     // how to reach it; nil: http.DefaultTransport. Redirects are never followed
	Now     func() time.Time // for Status
	// Key makes the Refs of members: at least 16 secret bytes. nil: random, so that Refs die with the process.
	Key []byte

	mu      sync.Mutex
	key     []byte
	up      bool
	changed time.Time
}

// Status says whether the last word with the service went well, and since when that is so. Before the first word it is
// false since the zero time.
func (c *Client) Status() (up bool, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up, c.changed
}

// Ping asks the service whether it is there; it is there when Ping returns nil, and the error is ErrDown otherwise.
func (c *Client) Ping(ctx context.Context) error {
	if _, err := c.do(ctx, http.MethodGet, "/v1/status", nil, ""); err != nil {
		return fmt.Errorf("certificate service: status: %w", err)
	}
	return nil
}

// Family returns whom the citizen may ask a certificate for, himself first. ErrNotRegistered, ErrDown.
func (c *Client) Family(ctx context.Context, fiscalCode string) ([]wire.Member, error) {
	ps, err := c.family(ctx, fiscalCode)
	if err != nil {
		return nil, fmt.Errorf("family: %w", err)
	}
	key, err := c.secret()
	if err != nil {
		return nil, fmt.Errorf("family: %w", err)
	}
	ms := make([]wire.Member, 0, len(ps))
	for _, p := range ps {
		ms = append(ms, wire.Member{
			Ref: ref(key, fiscalCode, p.FiscalCode), Name: p.Name, FamilyName: p.FamilyName, YearOfBirth: p.YearOfBirth,
		})
	}
	return ms, nil
}

// Certificate returns the PDF that the citizen with fiscalCode asks for, as the service made it. req.Member is a Ref that
// Family returned for the same citizen, or "" for the citizen; another one is ErrNotCertifiable, as is what the registry
// will not certify. ErrNotRegistered, ErrDown.
func (c *Client) Certificate(ctx context.Context, fiscalCode string, req wire.CertificateRequest) ([]byte, error) {
	holder := fiscalCode
	if req.Member != "" {
		var err error
		if holder, err = c.resolve(ctx, fiscalCode, req.Member); err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
	}
	body, err := json.Marshal(certificateQuestion{
		Applicant: fiscalCode, Holder: holder, Certificates: req.Certificates,
		Recipient: req.Recipient, Exemption: req.Exemption, Language: req.Language,
	})
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	pdf, err := c.do(ctx, http.MethodPost, "/v1/certificate", body, "application/pdf")
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if !bytes.HasPrefix(pdf, []byte("%PDF-")) {
		c.note(false)
		return nil, fmt.Errorf("certificate: answer is not a PDF: %w", ErrDown)
	}
	return pdf, nil
}

// resolve finds whom a Ref stands for. Nothing was kept: the family is asked for again, so that somebody who has left
// it since cannot be named any more.
func (c *Client) resolve(ctx context.Context, applicant, want string) (string, error) {
	ps, err := c.family(ctx, applicant)
	if err != nil {
		return "", err
	}
	key, err := c.secret()
	if err != nil {
		return "", err
	}
	for _, p := range ps {
		if hmac.Equal([]byte(ref(key, applicant, p.FiscalCode)), []byte(want)) {
			return p.FiscalCode, nil
		}
	}
	return "", fmt.Errorf("not of the applicant's family: %w", ErrNotCertifiable)
}

// ref names member towards applicant. It holds for this applicant only and tells nobody anything.
func ref(key []byte, applicant, member string) string {
	m := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(m, "%s\x00%s", applicant, member)
	return hex.EncodeToString(m.Sum(nil)[:16])
}

func (c *Client) secret() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.key != nil:
	case c.Key != nil && len(c.Key) < 16:
		return nil, errors.New("key of the certificate service is shorter than 16 bytes")
	case c.Key != nil:
		c.key = c.Key
	default:
		c.key = make([]byte, 32)
		_, _ = rand.Read(c.key) // never fails (Go 1.24)
	}
	return c.key, nil
}

type familyQuestion struct {
	FiscalCode string `json:"fiscal_code"`
}

type familyAnswer struct {
	Members []person `json:"members"`
}

type person struct {
	FiscalCode  string `json:"fiscal_code"`
	Name        string `json:"name"`
	FamilyName  string `json:"family_name"`
	YearOfBirth int    `json:"year_of_birth"`
}

type certificateQuestion struct {
	Applicant    string   `json:"applicant"`
	Holder       string   `json:"holder"`
	Certificates []string `json:"certificates"`
	Recipient    string   `json:"recipient"`
	Exemption    int      `json:"exemption"`
	Language     string   `json:"language"`
}

func (c *Client) family(ctx context.Context, fiscalCode string) ([]person, error) {
	body, err := json.Marshal(familyQuestion{fiscalCode})
	if err != nil {
		return nil, err
	}
	b, err := c.do(ctx, http.MethodPost, "/v1/family", body, "application/json")
	if err != nil {
		return nil, err
	}
	ps, err := decodeFamily(b, fiscalCode)
	if err != nil {
		c.note(false)
	}
	return ps, err
}

// decodeFamily reads the answer about a family. What does not make sense is ErrDown: nobody is named on a guess.
func decodeFamily(b []byte, fiscalCode string) ([]person, error) {
	var a familyAnswer
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("answer is not a family: %w", ErrDown) // err may quote the answer
	}
	if len(a.Members) == 0 || len(a.Members) > maxFamily {
		return nil, fmt.Errorf("answer has %d members: %w", len(a.Members), ErrDown)
	}
	if a.Members[0].FiscalCode != fiscalCode {
		return nil, fmt.Errorf("answer is about somebody else: %w", ErrDown)
	}
	for i, p := range a.Members {
		if p.FiscalCode == "" || p.FamilyName == "" || len(p.FiscalCode) > 16 || len(p.Name)+len(p.FamilyName) > 1000 {
			return nil, fmt.Errorf("member %d of the answer is incomplete: %w", i+1, ErrDown)
		}
	}
	return a.Members, nil
}

// do asks one question and returns the body of a good answer of type want.
func (c *Client) do(ctx context.Context, method, path string, body []byte, want string) ([]byte, error) {
	ask, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	b, err := c.exchange(ask, method, path, body, want)
	if ctx.Err() != nil {
		return nil, ctx.Err() // who asked has gone: that says nothing about the service
	}
	c.note(!errors.Is(err, ErrDown))
	return b, err
}

func (c *Client) exchange(ctx context.Context, method, path string, body []byte, want string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.BaseURL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDown, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	var h http.Client
	if c.HTTP != nil {
		h = *c.HTTP
	}
	// A redirect would carry the fiscal code to an address that nobody configured.
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := h.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDown, err)
	}
	defer func() { _ = res.Body.Close() }()
	limit := int64(wire.MaxJSON)
	if want == "application/pdf" && res.StatusCode == http.StatusOK {
		limit = wire.MaxDocument
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: read the answer: %w", ErrDown, err)
	case int64(len(b)) > limit:
		return nil, fmt.Errorf("%w: answer is longer than %d bytes", ErrDown, limit)
	case res.StatusCode == http.StatusNoContent && want == "":
		return nil, nil
	case res.StatusCode == http.StatusOK:
		if t, _, err := mime.ParseMediaType(res.Header.Get("Content-Type")); err != nil || t != want {
			return nil, fmt.Errorf("%w: answer is not %s", ErrDown, want)
		}
		return b, nil
	}
	return nil, refusal(res.StatusCode, b)
}

// refusal reads an answer that is none. The body is not quoted: it may name the citizen.
func refusal(status int, body []byte) error {
	var p wire.Problem
	if err := json.Unmarshal(body, &p); err == nil {
		switch {
		case status == http.StatusNotFound && p.Code == wire.ProblemNotRegistered:
			return ErrNotRegistered
		case status == http.StatusUnprocessableEntity && p.Code == wire.ProblemNotCertifiable:
			return ErrNotCertifiable
		}
	}
	return fmt.Errorf("%w: status %d", ErrDown, status)
}

// note remembers how the last word went.
func (c *Client) note(up bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if up == c.up && !c.changed.IsZero() {
		return
	}
	c.up = up
	if c.Now != nil {
		c.changed = c.Now()
	}
}
