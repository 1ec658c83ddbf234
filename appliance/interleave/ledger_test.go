package interleave_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"

	"sportello.example/appliance/ipp/ipptest"
	"sportello.example/appliance/printing"
	"sportello.example/kiosk/staff"
)

// linger is how long a visitor is still there after the visit has ended: as long as the kiosk says goodbye.
const linger = 6 * time.Second

// visit is a person at a kiosk.
type visit struct {
	session string
	kiosk   int
	ended   bool      // the box has ended the visit, or was killed
	left    time.Time // when the person is gone; zero: nobody knows yet
}

// document is what a visitor is to get.
type document struct {
	n       int
	of      *visit
	pages   int
	size    int
	given   []byte // what the desk was given, and is to overwrite
	out     []int  // sheets that came out, by page
	tray    []bool // pages of the whole document that are out and that staff has not destroyed
	reprint int    // times that staff decided to print it again
	pressed bool   // the visitor pressed "Stampa"
}

// content is the document: the same bytes for the same number.
func (d *document) content() []byte {
	b := fmt.Appendf(nil, "%%PDF-1.4\n%% %d\n1 0 obj <</Type /Pages /Count %d>> endobj\n", d.n, d.pages)
	for len(b) < d.size {
		b = fmt.Appendf(b, "%% %d %d\n", d.n, len(b))
	}
	return append(b, "%%EOF\n"...)
}

// ledger knows what really happened.
type ledger struct {
	mu      sync.Mutex
	faults  []string
	before  []string             // what happened before the first of them
	visits  map[string]*visit    // by session
	at      map[int]*visit       // by kiosk, the last one
	docs    map[string]*document // by SHA-256, hex
	last    map[string]*document // by session
	rows    map[string]printing.Row
	steps   map[string]string // of each row
	alarms  map[string]bool   // kind and subject of what staff has been told and not cleared
	figures map[string]int
	off     bool     // the box is
	story   []moment // what happened last
	now     func() time.Time
	jobs    func(uuid string) []ipptest.Job
}

func newLedger() *ledger {
	return &ledger{
		visits: map[string]*visit{}, at: map[int]*visit{}, docs: map[string]*document{}, last: map[string]*document{}, rows: map[string]printing.Row{}, steps: map[string]string{},
		alarms: map[string]bool{}, figures: map[string]int{}, now: time.Now,
	}
}

// moment is something that happened, told when somebody asks.
type moment struct {
	at     time.Time
	format string
	args   []any
}

func (m moment) String() string {
	return m.at.UTC().Format("15:04:05.000 ") + fmt.Sprintf(m.format, m.args...)
}

// note notes what happens. The caller holds mu.
func (l *ledger) note(format string, args ...any) {
	if len(l.story) == 200 {
		l.story = append(l.story[:0], l.story[100:]...)
	}
	l.story = append(l.story, moment{l.now(), format, args})
}

// fault notes that something happened that must not, and what had led to the first. The caller holds mu.
func (l *ledger) fault(format string, args ...any) {
	if len(l.faults) == 0 {
		for _, m := range l.story[max(0, len(l.story)-80):] {
			l.before = append(l.before, m.String())
		}
	}
	l.faults = append(l.faults, moment{l.now(), format, args}.String())
}

func (l *ledger) count(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.figures[what]++
	l.note("%s", what)
}

// happens counts trouble of a printer.
func (l *ledger) happens(uuid, what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.figures[what]++
	l.note("printer %s: %s", last(uuid), what)
}

// broken says what happened that must not.
func (l *ledger) broken() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Concat(l.faults, l.before)
}

// arrive begins a visit.
func (l *ledger) arrive(session string, kiosk int) *visit {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.at[kiosk]; old != nil {
		old.ended = true
		old.goes(l.now().Add(linger))
	}
	l.note("kiosk %d: a visit begins", kiosk)
	v := &visit{session: session, kiosk: kiosk}
	l.visits[session], l.at[kiosk] = v, v
	return v
}

// goes says when the visitor is gone, if not before.
func (v *visit) goes(at time.Time) {
	if v.left.IsZero() || at.Before(v.left) {
		v.left = at
	}
}

// end ends a visit.
func (l *ledger) end(v *visit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v.ended = true
	v.goes(l.now().Add(linger))
	l.note("kiosk %d: a visit ends", v.kiosk)
}

// cut ends all visits, as a killed box does: the people stand there.
func (l *ledger) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.off = true
	for _, v := range l.at {
		v.ended = true
	}
	l.note("the box is off")
}

// up says that there is a box again: the people see that their visit is over.
func (l *ledger) up() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.off = false
	l.note("the box is on")
	for _, v := range l.at {
		if v.ended {
			v.goes(l.now().Add(linger))
		}
	}
}

// there reports whether the visitor is. The caller holds mu.
func (l *ledger) there(v *visit) bool { return v.left.IsZero() || l.now().Before(v.left) }

// draw makes a document for a visit.
func (l *ledger) draw(session string, pages, size int) *document {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := &document{n: len(l.docs), of: l.visits[session], pages: pages, size: size, out: make([]int, pages), tray: make([]bool, pages)}
	d.given = d.content()
	sum := sha256.Sum256(d.given)
	l.docs[hex.EncodeToString(sum[:])], l.last[session] = d, d
	return d
}

// press says that a visitor presses "Stampa".
func (l *ledger) press(session string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.figures["presses"]++
	l.note("kiosk %d: print %d", l.last[session].of.kiosk, l.last[session].n)
	l.last[session].pressed = true
}

// row looks at a row before it is stored, and thus before the step that it names.
func (l *ledger) row(row printing.Row) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if before, ok := l.rows[row.ID]; !ok {
		l.figures["attempts"]++
		if d := l.docs[row.SHA256]; d == nil {
			l.fault("row %s is of a document that nobody made", row.ID)
		} else if row.Session != d.of.session || row.Kiosk != d.of.kiosk || !d.pressed {
			l.fault("document %d of session %s at kiosk %d (pressed: %v) is printed for session %s at kiosk %d",
				d.n, d.of.session, d.of.kiosk, d.pressed, row.Session, row.Kiosk)
		}
	} else if before.State != row.State && !row.State.Open() {
		l.figures[string(row.State)]++
	}
	l.rows[row.ID] = row
	l.steps[row.ID] += l.now().UTC().Format(" 15:04:05.000 ") + string(row.State)
	l.note("row %.8s of kiosk %d on printer %s is %s", row.ID, row.Kiosk, last(row.PrinterUUID), row.State)
	if row.State != printing.Creating && row.State != printing.Sending {
		return
	}
	for _, j := range l.jobs(row.PrinterUUID) {
		other := l.rows[j.Name]
		if j.Name == row.ID || other.ID == "" || !mayPrint(j) {
			continue
		}
		if v := l.visits[other.Session]; !other.State.Open() || v != nil && v.ended {
			l.fault("row %s is %s while printer %s still has job %s (%s, %s) of a print that is over", row.ID, row.State, last(row.PrinterUUID), j.Name, j.State, other.State)
		}
	}
}

// mayPrint reports whether a sheet of a job may still come out: a job that waits for its document gives none.
func mayPrint(j ipptest.Job) bool {
	return j.State == "processing" || j.State == "processing-stopped" || j.State == "pending-held"
}

// sheet looks at a sheet that comes out.
func (l *ledger) sheet(uuid string, s ipptest.Sheet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.figures["sheets"]++
	l.note("page %d of job %.8s comes out of printer %s", s.Page, s.JobName, last(uuid))
	row, ok := l.rows[s.JobName]
	d := l.docs[row.SHA256]
	if !ok || d == nil {
		l.fault("a sheet of job %q came out that is in no journal", s.JobName)
		return
	}
	want := d.content()
	if !bytes.HasPrefix(want, s.Document) {
		l.fault("job %s is not document %d, which its row says", s.JobName, d.n)
		return
	}
	page := s.Page - 1
	if page >= d.pages {
		l.fault("page %d of document %d, which has %d", s.Page, d.n, d.pages)
		return
	}
	d.out[page]++
	if len(want) == len(s.Document) {
		d.tray[page] = true
	}
	if d.out[page] > 1+d.reprint {
		l.fault("page %d of document %d came out %d times, and staff decided %d times that it is printed again", s.Page, d.n, d.out[page], d.reprint)
	}
	if l.there(d.of) && d.of.ended {
		l.figures["sheets while the kiosk said goodbye"]++
	}
	switch {
	case l.there(d.of):
	case l.alarms[string(staff.AlarmSheet)+uuid]:
		l.figures["sheets after the visit, with an alarm"]++
	case l.off:
		l.figures["sheets after the visit, while the box was off"]++
	default:
		l.fault("page %d of document %d of kiosk %d came out of printer %s %v after its visitor had gone, and staff had not been told (row %s is %s)",
			s.Page, d.n, d.of.kiosk, last(uuid), l.now().Sub(d.of.left), row.ID, row.State)
	}
}

// printed looks at a visitor who was told that everything is printed.
func (l *ledger) printed(session string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.figures["told that it is printed"]++
	d := l.last[session]
	for i := range d.pages {
		if !d.tray[i] {
			l.fault("kiosk %d was told that document %d is printed, but page %d is not", d.of.kiosk, d.n, i+1)
		}
	}
}

// raise and clear follow what staff is told.
func (l *ledger) raise(a staff.Alarm) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.alarms[string(a.Kind)+a.Subject] = true
	l.figures["alarm "+string(a.Kind)]++
	l.note("alarm %s of printer %s", a.Kind, last(a.Subject))
}

func (l *ledger) clear(kind staff.AlarmKind, subject string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.alarms, string(kind)+subject)
	l.note("alarm %s of printer %s is over", kind, last(subject))
}

// complete reports whether every page of the print is out, as somebody sees who looks at the tray.
func (l *ledger) complete(row string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.docs[l.rows[row].SHA256]
	return d != nil && !slices.Contains(d.tray, false)
}

// last is enough of a UUID to tell printers apart.
func last(uuid string) string { return uuid[max(0, len(uuid)-2):] }

// destroy is what staff does with what came out of a print that is not complete; again: it is printed again.
func (l *ledger) destroy(row string, again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.docs[l.rows[row].SHA256]
	clear(d.tray)
	if again {
		d.reprint++
	}
}

// leftovers says what is left when everybody has gone.
func (l *ledger) leftovers() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var left []string
	for _, d := range l.docs {
		if slices.ContainsFunc(d.given, func(b byte) bool { return b != 0 }) {
			left = append(left, fmt.Sprintf("document %d is in memory", d.n))
		}
	}
	for _, r := range l.rows {
		if r.State.Open() {
			left = append(left, fmt.Sprintf("row %s is %s", r.ID, r.State))
		}
	}
	return left
}
