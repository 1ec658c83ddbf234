package staff

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"sportello.example/kiosk"
)

// printersPage is what the page about the printers shows, in words.
type printersPage struct {
	Alarms  []alarmView
	Devices []deviceView
}

type alarmView struct {
	Kind     AlarmKind
	Subject  string
	Text     string
	Since    string
	Old, New []fingerprint
	Clear    bool   // staff can say that they have read it
	Link     string // where something can be done about it
	LinkKey  string // text of the link
}

// fingerprint is a key as people compare it.
type fingerprint struct{ Short, Full string }

// fingerprints writes SHA-256 sums out: the first 16 digits in fours, and all of them on demand. What is none is shown as
// it is.
func fingerprints(sums string) []fingerprint {
	var all []fingerprint
	for s := range strings.FieldsFuncSeq(sums, func(r rune) bool { return r == ',' || r == ' ' }) {
		f := fingerprint{Short: s, Full: s}
		if len(s) >= 64 {
			f.Short = s[:4] + " " + s[4:8] + " " + s[8:12] + " " + s[12:16]
		}
		all = append(all, f)
	}
	return all
}

type deviceView struct {
	UUID, Name, URI string
	Good            bool
	State, Since    string
	Message         string // in the printer's own words
	Reasons         []reasonView
	Trays           []lineView
	NoA4            bool
	Supplies        []lineView
	Queue           []jobView
	Others          string
	Today           string
	Format          string
	Link            string
	Risk            bool
	Blocked         string // code of the print whose sheet may still come out
	Fault           []fingerprint
	Raster          bool // always as a picture
	PDF             bool // it may be sent documents as they are: its own drawing of one was judged right
	Receipt         bool
	Here            bool // it is looked at
	Task            string
	Bad             bool // the task did not work
	Busy            bool // the task is under way
}

type reasonView struct{ Text, Keyword, Severity string }

type lineView struct {
	Name, Text string
	Low        bool
}

type jobView struct{ Code, Text, Since string }

// lowSupply is when a toner is shown as low, in percent.
const lowSupply = 10

// shortCode is how staff name a print: enough to tell those of a branch apart.
func shortCode(id string) string {
	id = strings.ReplaceAll(id, "-", "")
	return strings.ToUpper(id[:min(6, len(id))])
}

func (s *Server) printersPage(r *http.Request, p *page) error {
	ctx := r.Context()
	adopted, err := s.cfg.Adoptions.Adopted(ctx)
	if err != nil {
		return fmt.Errorf("adopted printers: %w", err)
	}
	undecided, err := s.cfg.Spool.Undecided(ctx)
	if err != nil {
		return fmt.Errorf("undecided prints: %w", err)
	}
	p.Undecided = len(undecided)
	var d printersPage
	for _, a := range s.cfg.Alarms.List() {
		if a.Kind != AlarmUncertain || len(undecided) == 0 { // the page says that of them all
			d.Alarms = append(d.Alarms, p.alarm(a))
		}
	}
	devices := s.cfg.Spool.Devices()
	for _, dev := range devices {
		i := slices.IndexFunc(adopted, func(a Adopted) bool { return a.UUID == dev.UUID })
		var a Adopted
		if i >= 0 {
			a = adopted[i]
		}
		d.Devices = append(d.Devices, s.device(p, dev, a))
	}
	for _, a := range adopted {
		if !slices.ContainsFunc(devices, func(dev Device) bool { return dev.UUID == a.UUID }) {
			d.Devices = append(d.Devices, s.unseen(p, a))
		}
	}
	p.Data = d
	return p.err
}

func (p *page) alarm(a Alarm) alarmView {
	v := alarmView{Kind: a.Kind, Subject: a.Subject, Since: p.since(a.At)}
	name := a.Name
	if name == "" {
		name = a.Subject
	}
	key := "staff.alarm." + string(a.Kind)
	switch a.Kind {
	case AlarmKey:
		v.Old, v.New = fingerprints(a.Old), fingerprints(a.New)
		v.Link, v.LinkKey = adopt, "staff.alarm.toadopt"
	case AlarmIdentity, AlarmDuplicate:
		v.Old, v.New = fingerprints(a.Old), fingerprints(a.New)
		v.Clear = a.Kind == AlarmDuplicate
	case AlarmName:
		v.Text, v.Clear = p.t(key, "name", name, "new", a.New), true
		return v
	case AlarmUncertain:
		v.Link, v.LinkKey = prints, "staff.prints.go"
	case AlarmRisk:
		until := a.New
		if day, err := time.ParseInLocation(time.DateOnly, a.New, p.now.Location()); err == nil {
			until = p.day(day)
		}
		v.Text = p.t(key, "name", name, "until", until)
		return v
	case AlarmSheet:
	default: // of a newer box
		v.Text = name + ": " + string(a.Kind)
		return v
	}
	v.Text = p.t(key, "name", name)
	return v
}

func (s *Server) device(p *page, dev Device, a Adopted) deviceView {
	v := s.unseen(p, a)
	v.UUID, v.Name, v.URI, v.Here = dev.UUID, dev.Name, dev.URI, true
	if v.Name == "" {
		v.Name = a.Name
	}
	if dev.Presence == WrongIdentity && a.Link == LinkTLS {
		v.Link = p.t("staff.link.other")
	}
	v.Good = dev.Presence == Online && (dev.State == kiosk.PrinterReady || dev.State == kiosk.PrinterBusy) || dev.Presence == Asleep
	v.State = p.state(dev)
	v.Since = p.since(dev.Since)
	v.Message = dev.Message
	for _, re := range dev.Reasons {
		key := "staff.reason." + re.Keyword
		if !p.lang.Has(key) {
			key = "staff.reason.other"
		}
		v.Reasons = append(v.Reasons, reasonView{p.t(key), re.Keyword, re.Severity})
	}
	a4, says := false, false
	for _, tr := range dev.Trays {
		says = says || tr.Media != ""
		a4 = a4 || strings.HasPrefix(tr.Media, "iso_a4") && tr.Level != 0
		v.Trays = append(v.Trays, p.tray(tr))
	}
	v.NoA4 = says && !a4 && !a.Receipt
	for _, su := range dev.Supplies {
		l := lineView{Name: su.Name, Text: p.t("staff.level.unknown"), Low: su.Level >= 0 && su.Level <= lowSupply && !strings.Contains(su.Kind, "waste")}
		if su.Level >= 0 {
			l.Text = fmt.Sprintf("%d %%", su.Level)
		}
		v.Supplies = append(v.Supplies, l)
	}
	for _, j := range dev.Queue {
		v.Queue = append(v.Queue, jobView{shortCode(j.ID), p.t("staff.job", "kind", p.kind(j.Kind), "kiosk", j.Kiosk, "state", p.jobState(j.State)), p.since(j.Since)})
	}
	if dev.Others > 0 {
		v.Others = p.count("staff.others", dev.Others)
	}
	v.Today = p.count("staff.today", dev.PagesToday)
	if dev.Format != "" {
		v.Format = p.format(dev.Format)
	}
	if dev.Blocked != "" {
		v.Blocked = shortCode(dev.Blocked)
	}
	v.Fault = fingerprints(dev.Fault)
	return v
}

// unseen is what is known of an adopted printer without looking at it.
func (s *Server) unseen(p *page, a Adopted) deviceView {
	v := deviceView{UUID: a.UUID, Name: a.Name, URI: a.URI, Raster: a.Raster, PDF: a.PDF, Receipt: a.Receipt, State: p.t("staff.state.unseen")}
	switch a.Link {
	case LinkTLS, LinkUSB:
		v.Link = p.t("staff.link." + string(a.Link))
	case LinkDedicated:
		v.Link = p.t("staff.link.dedicated", "port", a.Interface)
	case LinkRisk:
		v.Risk = true
		if a.Risk != nil {
			v.Link = p.t("staff.link.risk", "name", a.Risk.By, "until", p.day(a.Risk.Until))
		}
	}
	if t, ok := s.task(testTask(a.UUID)); ok {
		v.Task, v.Bad = t.words(p)
		v.Busy = t.running
	}
	return v
}

// state says how a printer is in one line.
func (p *page) state(dev Device) string {
	switch {
	case dev.Blocked != "":
		return p.t("trouble.blocked.title")
	case dev.Presence == Asleep, dev.Presence == Unreachable, dev.Presence == WrongIdentity:
		return p.t("staff.presence." + string(dev.Presence))
	case dev.Trouble != kiosk.TroubleNone:
		return p.t("trouble." + string(dev.Trouble) + ".title")
	case dev.State == kiosk.PrinterReady, dev.State == kiosk.PrinterBusy, dev.State == kiosk.PrinterOffline:
		return p.t("staff.state." + string(dev.State))
	case dev.State == kiosk.PrinterAttention:
		return p.t("trouble.other.title")
	}
	return p.t("staff.state.unseen")
}

func (p *page) tray(tr Tray) lineView {
	l := lineView{Name: tr.Name, Low: tr.Level == 0}
	var parts []string
	if m := medium(tr.Media); m != "" {
		parts = append(parts, m)
	}
	switch {
	case tr.Level == 0:
		parts = append(parts, p.t("staff.tray.empty"))
	case tr.Level > 0 && tr.Max > 0:
		parts = append(parts, p.t("staff.tray.of", "n", tr.Level, "of", tr.Max))
	case tr.Level > 0:
		parts = append(parts, p.count("staff.tray.sheets", tr.Level))
	default:
		parts = append(parts, p.t("staff.level.unknown"))
	}
	l.Text = strings.Join(parts, ", ")
	return l
}

// medium shortens a media name of PWG 5101.1: "iso_a4_210x297mm" is A4.
func medium(name string) string {
	_, size, ok := strings.Cut(name, "_")
	if !ok {
		return name
	}
	short, _, _ := strings.Cut(size, "_")
	if len(short) == 2 {
		return strings.ToUpper(short)
	}
	return short
}

func (p *page) kind(kind string) string {
	switch kind {
	case "certificate", "declaration", "slip", "test", "adoption":
		return p.t("staff.kind." + kind)
	}
	return kind
}

func (p *page) jobState(state string) string {
	switch state {
	case "queued", "creating", "created", "sending", "sent", "printing":
		return p.t("staff.jobstate." + state)
	}
	return state
}

// format says how documents go to a printer, with the name technicians know it by.
func (p *page) format(mime string) string {
	switch mime {
	case "application/pdf":
		return p.t("staff.format.document", "name", "PDF")
	case "image/urf":
		return p.t("staff.format.picture", "name", "URF")
	case "image/pwg-raster":
		return p.t("staff.format.picture", "name", "PWG Raster")
	}
	return mime
}

func testTask(uuid string) string { return "test " + uuid }

// printer does what a button beside a printer says.
func (s *Server) printer(w http.ResponseWriter, r *http.Request, v *visit) error {
	ctx, uuid := r.Context(), r.PostForm.Get("uuid")
	a, err := s.adopted(ctx, uuid)
	if err != nil {
		return err
	}
	switch r.PostForm.Get("action") {
	case "test":
		s.beginTask(testTask(uuid), task{name: a.Name}, func(ctx context.Context, _ *task) error { return s.cfg.Spool.TestPage(ctx, uuid) })
	case "picture", "document":
		err = s.cfg.Adoptions.SetRaster(ctx, uuid, r.PostForm.Get("action") == "picture")
	case "free":
		err = s.free(ctx, v, uuid)
	default:
		return kiosk.ErrUnknown
	}
	if err != nil {
		return err
	}
	return seeOther(w, r, home)
}

// free has a printer go on after somebody has looked into its tray.
func (s *Server) free(ctx context.Context, v *visit, uuid string) error {
	said := "staff.free.done"
	err := s.cfg.Spool.Free(ctx, uuid, v.who.by)
	if errors.Is(err, ErrGone) { // the printer has said meanwhile that nothing more comes, or somebody was faster
		said, err = "staff.free.settled", nil
	}
	if err != nil {
		return err
	}
	s.cfg.Alarms.Clear(AlarmSheet, uuid)
	return s.say(v, said)
}

// adopted returns an adopted printer. ErrGone.
func (s *Server) adopted(ctx context.Context, uuid string) (Adopted, error) {
	all, err := s.cfg.Adoptions.Adopted(ctx)
	if err != nil {
		return Adopted{}, fmt.Errorf("adopted printers: %w", err)
	}
	i := slices.IndexFunc(all, func(a Adopted) bool { return a.UUID == uuid })
	if i < 0 {
		return Adopted{}, ErrGone
	}
	return all[i], nil
}

// retirePage asks before an adoption ends.
type retirePage struct{ UUID, Name string }

func (s *Server) askRetire(w http.ResponseWriter, r *http.Request, v *visit) error {
	a, err := s.adopted(r.Context(), r.URL.Query().Get("uuid"))
	if err != nil {
		return err
	}
	p := s.page(v, "retire", retire)
	p.Data = retirePage{a.UUID, a.Name}
	return s.render(w, http.StatusOK, p)
}

func (s *Server) retire(w http.ResponseWriter, r *http.Request, v *visit) error {
	uuid := r.PostForm.Get("uuid")
	if slices.ContainsFunc(s.cfg.Spool.Devices(), func(d Device) bool { return d.UUID == uuid && d.Blocked != "" }) {
		// After a restart nobody would know of that sheet any more.
		if err := s.say(v, "staff.retire.blocked"); err != nil {
			return err
		}
		return seeOther(w, r, home)
	}
	if err := s.cfg.Adoptions.Retire(r.Context(), uuid, v.who.by); err != nil && !errors.Is(err, ErrGone) {
		return err
	}
	return seeOther(w, r, home)
}

func (s *Server) clearAlarm(w http.ResponseWriter, r *http.Request, _ *visit) error {
	switch kind := AlarmKind(r.PostForm.Get("kind")); kind {
	case AlarmName, AlarmDuplicate:
		s.cfg.Alarms.Clear(kind, r.PostForm.Get("subject"))
	default: // the others end when their reason does
		return kiosk.ErrUnknown
	}
	return seeOther(w, r, home)
}
