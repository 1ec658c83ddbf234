//go:build linux

package lantest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/OpenPrinting/goipp"
)

// askLimit is how long a printer may take to answer the one who looks after it.
const askLimit = 20 * time.Second

// here is the printer's own address, as seen on its machine: what a test does to the network is no hindrance.
func (p *Printer) here() string { return netip.AddrPortFrom(p.Addr(), uint16(p.port)).String() }

// client speaks HTTP from the printer's own machine.
func (p *Printer) client() *http.Client {
	return &http.Client{Timeout: askLimit, Transport: &http.Transport{DialContext: p.Dial, DisableKeepAlives: true}}
}

// form fills in one of the printer's web pages. ippeveprinter wants that as a GET.
func (p *Printer) form(page, query string) error {
	req, err := http.NewRequest(http.MethodGet, "http://"+p.here()+page+"?"+query, nil)
	if err != nil {
		return err
	}
	if p.cfg.Auth {
		req.SetBasicAuth("whoever", "anything")
	}
	resp, err := p.client().Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return errors.Join(fmt.Errorf("%s of %s: %s", page, p.name, resp.Status), err)
	}
	return nil
}

func (p *Printer) load(size string, sheets int) error {
	var q strings.Builder
	for i := range 10 {
		fmt.Fprintf(&q, "size%d=%s&type%d=stationery&level%d=%d&", i, size, i, i, sheets)
	}
	// A tray is told about again until the printer says so itself: it takes up a form after it has answered it.
	for end := time.Now().Add(askLimit); ; time.Sleep(20 * time.Millisecond) {
		if err := p.form("/media", strings.TrimSuffix(q.String(), "&")); err != nil {
			return err
		}
		ready, err := p.attribute("media-ready")
		if err != nil {
			return err
		}
		reasons, err := p.attribute("printer-state-reasons")
		if err != nil {
			return err
		}
		empty := slices.ContainsFunc(reasons, func(r string) bool { return strings.HasPrefix(r, "media-empty") })
		if slices.Contains(ready, size) && empty == (sheets == 0) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s has %v after %d sheets of %s were loaded", p.name, ready, sheets, size)
		}
	}
}

// Paper loads every tray with sheets of a size (PWG 5101.1: "iso_a4_210x297mm"). With none a job waits for paper.
func (p *Printer) Paper(t testing.TB, size string, sheets int) {
	t.Helper()
	must(t, p.load(size, sheets))
}

// Toner sets the level of every cartridge: 0 is empty, less than 10 is low.
func (p *Printer) Toner(t testing.TB, percent int) {
	t.Helper()
	var q strings.Builder
	q.WriteString("supply0=10") // the bottle for waste
	for i := 1; i <= 4; i++ {
		q.WriteString(fmt.Sprintf("&supply%d=%d", i, percent))
	}
	must(t, p.form("/supplies", q.String()))
}

// Doc is a document that the printer has received, whole or not: what is on paper.
type Doc struct {
	Name   string // of the file: number of the job, job-name
	Bytes  []byte
	SHA256 [sha256.Size]byte
}

// Docs returns what the printer has received, oldest first.
func (p *Printer) Docs(t testing.TB) []Doc {
	t.Helper()
	entries, err := os.ReadDir(p.file(spoolDir))
	must(t, err)
	type aged struct {
		Doc
		at time.Time
	}
	var all []aged
	for _, e := range entries {
		info, err := e.Info()
		must(t, err)
		b, err := os.ReadFile(filepath.Join(p.file(spoolDir), e.Name()))
		must(t, err)
		if len(b) > 0 {
			all = append(all, aged{Doc{e.Name(), b, sha256.Sum256(b)}, info.ModTime()})
		}
	}
	slices.SortStableFunc(all, func(a, b aged) int { return a.at.Compare(b.at) })
	var docs []Doc
	for _, a := range all {
		docs = append(docs, a.Doc)
	}
	return docs
}

// ask has the printer do an operation and returns its answer. It is not the product's client, so that both are right or
// a test fails.
func (p *Printer) ask(op goipp.Op, add func(*goipp.Message)) (*goipp.Message, error) {
	m := goipp.NewRequest(goipp.DefaultVersion, op, 1)
	for _, a := range []goipp.Attribute{
		goipp.MakeAttribute("attributes-charset", goipp.TagCharset, goipp.String("utf-8")),
		goipp.MakeAttribute("attributes-natural-language", goipp.TagLanguage, goipp.String("en")),
		goipp.MakeAttribute("printer-uri", goipp.TagURI, goipp.String("ipp://"+p.here()+"/ipp/print")),
		goipp.MakeAttribute("requesting-user-name", goipp.TagName, goipp.String("somebody else")),
	} {
		m.Operation.Add(a)
	}
	add(m)
	body, err := m.EncodeBytes()
	if err != nil {
		return nil, err
	}
	resp, err := p.client().Post("http://"+p.here()+"/ipp/print", goipp.ContentType, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer goipp.Message
	if err := answer.Decode(resp.Body); err != nil {
		return nil, err
	}
	if s := goipp.Status(answer.Code); s >= goipp.StatusRedirectionOtherSite {
		return nil, fmt.Errorf("%v of %s: %v", op, p.name, s)
	}
	return &answer, nil
}

// attribute asks the printer for one of its attributes.
func (p *Printer) attribute(name string) ([]string, error) {
	answer, err := p.ask(goipp.OpGetPrinterAttributes, func(m *goipp.Message) {
		m.Operation.Add(goipp.MakeAttribute("requested-attributes", goipp.TagKeyword, goipp.String(name)))
	})
	if err != nil {
		return nil, err
	}
	var values []string
	for _, a := range answer.Printer {
		if a.Name == name {
			for _, v := range a.Values {
				values = append(values, v.V.String())
			}
		}
	}
	return values, nil
}

// Idle reports whether the printer has no job.
func (p *Printer) Idle() bool {
	state, err := p.attribute("printer-state")
	return err == nil && len(state) == 1 && state[0] == "3" // RFC 8011 §5.4.11
}

func (p *Printer) askUUID() (string, error) {
	values, err := p.attribute("printer-uuid")
	if err != nil || len(values) == 0 {
		return "", fmt.Errorf("printer-uuid of %s: %v: %w", p.name, values, err)
	}
	return strings.TrimPrefix(strings.ToLower(values[0]), "urn:uuid:"), nil
}

// Occupy has somebody else make a job, whose document never comes: the printer is busy until the job is cancelled by
// the function returned.
func (p *Printer) Occupy(t testing.TB) (leave func(testing.TB)) {
	t.Helper()
	answer, err := p.ask(goipp.OpCreateJob, func(m *goipp.Message) {
		m.Operation.Add(goipp.MakeAttribute("job-name", goipp.TagName, goipp.String("somebody's")))
	})
	must(t, err)
	var id goipp.Value
	for _, a := range answer.Job {
		if a.Name == "job-id" {
			id = a.Values[0].V
		}
	}
	return func(t testing.TB) {
		t.Helper()
		_, err := p.ask(goipp.OpCancelJob, func(m *goipp.Message) {
			m.Operation.Add(goipp.MakeAttribute("job-id", goipp.TagInteger, id))
		})
		must(t, err)
	}
}

// Pin is the SHA-256 of the SubjectPublicKeyInfo of the key that the printer shows, in hex.
func (p *Printer) Pin(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), askLimit)
	defer cancel()
	conn, err := p.Dial(ctx, "tcp", p.here())
	must(t, err)
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	defer func() { _ = secure.Close() }()
	must(t, secure.HandshakeContext(ctx))
	sum := sha256.Sum256(secure.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}
