package adoption

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	qrcode "github.com/skip2/go-qrcode"

	"sportello.example/appliance/escpos"
	"sportello.example/appliance/ipp"
	"sportello.example/kiosk"
	"sportello.example/kiosk/paper"
	"sportello.example/kiosk/staff"
	"sportello.example/sync/event"
)

const (
	trialLife = 10 * time.Minute // from when the page is out
	trialMax  = 8                // that wait for their code at once
	tries     = 3
)

// trial is an adoption that waits for its code. It lives in RAM: after a restart the page is printed anew.
type trial struct {
	a        staff.Adopted // as it will be stored
	endpoint endpoint
	code     string
	picture  bool // was asked for as one
	format   string
	printing bool
	started  time.Time
	left     int
}

func (t *trial) over(now time.Time) bool {
	age := now.Sub(t.started)
	return !t.printing && (age >= trialLife || age < 0)
}

// Begin prints the adoption page with a random code: see staff.Adoptions. The keys that the printer shows before are the
// only ones the page may go to. When too many pages were printed lately the *kiosk.PrintError says TroubleBusy.
func (s *Service) Begin(ctx context.Context, id string, raster bool, risk *staff.Risk, by string) (staff.Trial, error) {
	s.mu.Lock()
	c, ok := s.listed[id]
	s.mu.Unlock()
	if !ok {
		return staff.Trial{}, fmt.Errorf("adopt: %w", staff.ErrGone)
	}
	t, err := s.prepare(ctx, c, risk, by)
	if err != nil {
		return staff.Trial{}, fmt.Errorf("adopt %s: %w", c.URI, err)
	}
	t.picture = raster
	if err := s.reserve(id, t); err != nil {
		return staff.Trial{}, fmt.Errorf("adopt %s: %w", c.URI, err)
	}
	format, err := s.print(ctx, t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trials[id] != t {
		return staff.Trial{}, fmt.Errorf("adopt %s: printed once more meanwhile: %w", c.URI, staff.ErrOver)
	}
	if err != nil {
		delete(s.trials, id)
		return staff.Trial{}, fmt.Errorf("adopt %s: %w", c.URI, err)
	}
	t.printing, t.format, t.started = false, format, s.cfg.Now()
	s.cfg.Log.InfoContext(ctx, "adoption page printed", "uuid", t.a.UUID, "uri", t.a.URI, "format", format)
	return staff.Trial{
		ID: id, UUID: t.a.UUID, Name: t.a.Name, Format: format, Started: t.started, Ends: t.started.Add(trialLife), Left: t.left,
	}, nil
}

// prepare looks at the printer once more: what is adopted is what was shown.
func (s *Service) prepare(ctx context.Context, c candidate, risk *staff.Risk, by string) (*trial, error) {
	if c.Refused != "" && c.Refused != plain {
		return nil, fmt.Errorf("%s: %w", c.Refused, staff.ErrRefused)
	}
	asking, cancel := context.WithTimeout(ctx, oneTimeout)
	defer cancel()
	a := s.probe(asking, c.endpoint, true)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now := s.judge(a, staff.Adopted{}, false)
	switch {
	case now.Refused == unreachable:
		return nil, &kiosk.PrintError{Trouble: kiosk.TroubleUnreachable, Outcome: kiosk.NothingPrinted, Err: a.err}
	case now.UUID != c.UUID || !within(c.Keys, now.Keys):
		return nil, fmt.Errorf("another printer, or another key: %w", staff.ErrGone)
	case now.Refused != "" && now.Refused != plain:
		return nil, fmt.Errorf("%s: %w", now.Refused, staff.ErrRefused)
	}
	s.mu.Lock()
	known, isKnown := s.knownAs(a)
	s.mu.Unlock()
	if isKnown && !same(now, known, s.cfg.Now()) && known.URI != "" && s.probe(asking, typed(known.URI), false).genuine(known) {
		// Whoever sits between could pass the page on to it, and its code would come out in the room.
		return nil, fmt.Errorf("%s: %w", duplicate, staff.ErrRefused)
	}
	t := &trial{endpoint: c.endpoint, printing: true, left: tries, a: staff.Adopted{
		UUID: now.UUID, Name: now.Name, Make: now.Make, Serial: now.serial, URI: now.URI, Keys: now.Keys, Receipt: now.Receipt, By: who(by),
	}}
	if err := s.links(t, now, risk); err != nil {
		return nil, err
	}
	if t.a.Receipt {
		if t.a.UUID = known.UUID; !isKnown {
			t.a.UUID = newUUID()
		}
	}
	return t, nil
}

// links says how the box will know the printer again.
func (s *Service) links(t *trial, c candidate, risk *staff.Risk) error {
	switch {
	case c.TLS:
		t.a.Link = staff.LinkTLS
	case usb(c.URI):
		t.a.Link = staff.LinkUSB
	case c.iface != "":
		t.a.Link, t.a.Interface = staff.LinkDedicated, c.iface
	case risk == nil:
		return fmt.Errorf("%s: %w", plain, staff.ErrRefused)
	default:
		now := s.cfg.Now().UTC()
		r := staff.Risk{By: who(risk.By), Why: line(risk.Why, maxWhy), At: now, Until: risk.Until.UTC()}
		if err := checkRisk(r, now); err != nil {
			return err
		}
		t.a.Link, t.a.Risk = staff.LinkRisk, &r
		return nil
	}
	if risk != nil {
		return fmt.Errorf("nothing is risked with this printer: %w", staff.ErrRisk)
	}
	return nil
}

// reserve takes a place among the trials for t, and gives it its code.
func (s *Service) reserve(id string, t *trial) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	maps.DeleteFunc(s.trials, func(_ string, o *trial) bool { return o.over(now) })
	_, again := s.trials[id]
	if !again && len(s.trials) >= trialMax || s.pages.Blocked("") {
		return &kiosk.PrintError{
			Trouble: kiosk.TroubleBusy, Outcome: kiosk.NothingPrinted, Err: errors.New("too many adoption pages: wait an hour"),
		}
	}
	s.pages.Add("")
	code, err := s.newCode()
	if err != nil {
		return err
	}
	t.code = code
	s.trials[id] = t
	return nil
}

// newCode returns four random digits that no other page has which somebody may hold in their hand, and that nobody would
// guess first. The caller holds mu.
func (s *Service) newCode() (string, error) {
	for {
		n, err := rand.Int(rand.Reader, big.NewInt(10000))
		if err != nil {
			return "", fmt.Errorf("code: %w", err)
		}
		code := fmt.Sprintf("%04d", n)
		used := slices.ContainsFunc(slices.Collect(maps.Values(s.trials)), func(t *trial) bool { return t.code == code })
		if !used && strings.Trim(code, code[:1]) != "" {
			return code, nil
		}
	}
}

func (s *Service) print(ctx context.Context, t *trial) (format string, err error) {
	branch := ""
	if s.cfg.Branch != nil {
		branch = s.cfg.Branch()
	}
	if t.a.Receipt {
		b, err := escpos.Adoption(t.code, branch)
		if err != nil {
			return "", fmt.Errorf("adoption slip: %w", err)
		}
		return "", escpos.Printer{URI: t.a.URI, Dial: s.receiptDial(t.a.Interface)}.Print(ctx, b)
	}
	code, err := qrcode.New("SPORTELLO "+t.code, qrcode.Medium)
	if err != nil {
		return "", fmt.Errorf("adoption page: %w", err)
	}
	day := s.cfg.Now()
	if s.cfg.Zone != nil {
		day = day.In(s.cfg.Zone)
	}
	page, err := paper.AdoptionPage(paper.AdoptionForm{Code: t.code, Printer: t.a.Name, Branch: branch, At: day, QR: code.Bitmap()})
	if err != nil {
		return "", err
	}
	return s.cfg.Printer.Trial(ctx, t.a, page, t.picture)
}

// Confirm takes the code that a person read on the paper: see staff.Adoptions. A right code is good once, unless the
// printer cannot be asked just then.
func (s *Service) Confirm(ctx context.Context, id, code string, right bool, by string) (staff.Adopted, error) {
	t, err := s.redeem(id, code)
	if err != nil {
		return staff.Adopted{}, fmt.Errorf("adopt: %w", err)
	}
	a, err := s.finish(ctx, t, right, by)
	if err != nil {
		if !errors.Is(err, staff.ErrRefused) && !errors.Is(err, staff.ErrChanged) {
			s.giveBack(id, t)
		}
		s.cfg.Log.WarnContext(ctx, "printer not adopted", "uuid", t.a.UUID, "uri", t.a.URI, "err", err)
		return staff.Adopted{}, fmt.Errorf("adopt %s: %w", t.a.URI, err)
	}
	return a, nil
}

// redeem takes the trial out when the code is right.
func (s *Service) redeem(id, code string) (*trial, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.trials[id]
	if !ok || t.printing {
		return nil, staff.ErrOver
	}
	if t.over(s.cfg.Now()) {
		delete(s.trials, id)
		return nil, staff.ErrOver
	}
	typed := strings.Join(strings.Fields(code), "")
	if subtle.ConstantTimeCompare([]byte(typed), []byte(t.code)) == 1 {
		delete(s.trials, id)
		return t, nil
	}
	if t.left--; t.left > 0 {
		return nil, staff.ErrCode
	}
	delete(s.trials, id)
	return nil, staff.ErrOver
}

// giveBack lets the code be typed once more.
func (s *Service) giveBack(id string, t *trial) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, again := s.trials[id]; !again {
		s.trials[id] = t
	}
}

func (s *Service) finish(ctx context.Context, t *trial, right bool, by string) (staff.Adopted, error) {
	if !right {
		return staff.Adopted{}, fmt.Errorf("the page is not right: %w", staff.ErrRefused)
	}
	if err := s.recheck(ctx, t); err != nil {
		return staff.Adopted{}, err
	}
	a := t.a
	a.At, a.By = s.cfg.Now().UTC(), who(by)
	a.PDF, a.Raster = t.format == ipp.PDF, t.picture
	s.change.Lock()
	defer s.change.Unlock()
	if err := s.keep(ctx, a); err != nil {
		return staff.Adopted{}, err
	}
	s.cfg.Log.InfoContext(ctx, "printer adopted", "uuid", a.UUID, "name", a.Name, "uri", a.URI, "link", a.Link, "keys", len(a.Keys), "pdf", a.PDF)
	s.note(event.PrinterAdopted, a)
	s.cleared(a.UUID, staff.AlarmKey, staff.AlarmIdentity, staff.AlarmRisk)
	return a, nil
}

// recheck sees whether what answers is still what printed the page. A key that was not there before is none of the printer
// whose page was read: it is not taken in.
func (s *Service) recheck(ctx context.Context, t *trial) error {
	ctx, cancel := context.WithTimeout(ctx, oneTimeout)
	defer cancel()
	now := s.probe(ctx, t.endpoint, false)
	switch {
	case now.err != nil:
		return fmt.Errorf("%w: %w", staff.ErrGone, now.err)
	case t.a.Receipt:
		return nil
	case t.a.Link == staff.LinkTLS && (len(now.keys) == 0 || !within(now.keys, t.a.Keys)):
		return fmt.Errorf("it shows other keys: %w", staff.ErrChanged)
	case now.printer.UUID != t.a.UUID || now.printer.Serial != t.a.Serial:
		return fmt.Errorf("it says it is %.40q: %w", now.printer.UUID, staff.ErrChanged)
	}
	return nil
}

// newUUID returns a random UUID (RFC 9562 §5.4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
