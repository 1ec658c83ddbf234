package ingest

import (
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/pickup"
	"sportello.example/sync/seal"
	"sportello.example/sync/wire"
)

// item is one entry of a run, read as far as this hub can.
type item struct {
	row     Row
	request *wire.Request // what a citizen left
	dating  *Dating       // what the box learned of its clock
	alarm   *Alarm        // what somebody should look at, if the entry is new
	writer  uint32        // box that queued it, when that is another; else 0
}

// last is the number of the last event that a row covers.
func (r *Row) last() uint64 {
	if r.Missing != nil {
		return r.Seq + r.Missing.Count - 1
	}
	return r.Seq
}

// maxPages is more than anybody prints at once. A larger number is a mistake, and would be in every sum.
const maxPages = 10_000

// upcasters turn a body into an event of today, by its schema.
var upcasters = map[uint8]func([]byte) (event.Body, error){
	event.SchemaV1:   upcastV1,
	event.SchemaBody: upcastBody,
}

func upcastV1(b []byte) (event.Body, error) {
	var e event.V1
	err := json.Unmarshal(b, &e)
	return event.Body{Session: e.Session, Kiosk: e.Kiosk, Detail: e.Detail}, err
}

func upcastBody(b []byte) (event.Body, error) {
	var e event.Body
	err := json.Unmarshal(b, &e)
	return e, err
}

// decode reads an encoded envelope that should be number seq of the chain. It never fails: what cannot be read is
// judged so and kept.
func decode(ring seal.Ring, id ChainID, seq uint64, encoded []byte) item {
	it := item{row: Row{ID: id, Seq: seq, Encoded: encoded}}
	e, err := envelope.Parse(encoded)
	// Another number inside than outside would let one text be counted under two.
	if err != nil || e.Seq != seq || e.Chain != id.Chain || !plainText(e.Kind) {
		it.unreadable()
		return it
	}
	r := &it.row
	if e.Box != id.Box { // 0 while it was not enrolled
		it.writer = e.Box
	}
	r.Kind, r.Schema = event.Kind(e.Kind), e.Schema
	r.Boot, r.Mono, r.Quality = e.At.Boot, e.At.Mono, min(e.At.Quality, envelope.Synced)
	if inTime(e.At.Wall) {
		r.Wall = e.At.Wall
	}
	upcast, ok := upcasters[e.Schema]
	if !ok || !kinds[r.Kind] {
		if !json.Valid(e.Body) {
			it.unreadable()
			return it
		}
		r.Judged = Quarantined
		return it
	}
	var body event.Body
	quickly := false
	if e.Schema == event.SchemaBody && ofVisits[r.Kind] {
		body, quickly = quickBody(e.Body)
	}
	if !quickly {
		if body, err = upcast(e.Body); err != nil {
			it.unreadable()
			return it
		}
	}
	it.interpret(body)
	if r.Kind != event.RequestLeft || r.Judged != Understood {
		return it
	}
	var plain []byte
	if e.Schema == event.SchemaV1 {
		var v event.V1
		if err = json.Unmarshal(e.Body, &v); err == nil {
			plain, err = ring.OpenRequestV1(v.Sealed)
		}
	} else {
		plain, err = ring.Open(e.AAD(), e.Sealed)
	}
	it.open(plain, err)
	return it
}

// decodeV1 reads an event in JSON as the first release sends it.
func decodeV1(ring seal.Ring, id ChainID, seq uint64, body []byte) item {
	it := item{row: Row{ID: id, Seq: seq, Encoded: body, Schema: event.SchemaV1}}
	var e event.V1
	if err := json.Unmarshal(body, &e); err != nil || e.Seq != seq || !plainText(string(e.Kind)) {
		it.unreadable()
		return it
	}
	r := &it.row
	if r.Kind = e.Kind; e.ClockOK {
		r.Quality = envelope.Synced
	}
	if inTime(e.At) {
		r.Wall = e.At.UTC()
	}
	if !kinds[e.Kind] {
		r.Judged = Quarantined
		return it
	}
	it.interpret(event.Body{Session: e.Session, Kiosk: e.Kiosk, Detail: e.Detail})
	if r.Kind == event.RequestLeft && r.Judged == Understood {
		it.open(ring.OpenRequestV1(e.Sealed))
	}
	return it
}

// unreadable keeps the entry for a person to look at. The columns say nothing of it.
func (it *item) unreadable() {
	r := it.row
	it.row = Row{ID: r.ID, Seq: r.Seq, Hash: r.Hash, Encoded: r.Encoded, Judged: Unreadable}
	it.alarm = &Alarm{Kind: AlarmUnreadable, Key: r.ID.Chain.String(), Text: "an event of " + r.ID.Chain.String() + " cannot be read; it is kept"}
}

// interpret takes over what the columns say of an event that is understood.
func (it *item) interpret(b event.Body) {
	r, d := &it.row, b.Detail
	if !plainText(b.Session) || !plainText(d.Mode) || d.Pages < 0 || d.Pages > maxPages {
		it.unreadable()
		return
	}
	r.Session, r.Mode, r.Pages = b.Session, d.Mode, d.Pages
	it.alarm = alarmOf(r.Kind, d)
	if c := d.Clock; r.Kind == event.ClockSet && c != nil && c.Boot > 0 && c.Mono >= 0 && c.Mono <= maxMono && inTime(c.New) {
		id := r.ID
		if d.Epoch.Valid() { // an older one, of the same start
			id.Chain.Epoch = d.Epoch
		}
		it.dating = &Dating{ID: id, Boot: c.Boot, Mono: time.Duration(c.Mono) * time.Millisecond, New: c.New.UTC()}
	}
}

// maxMono is 100 years in milliseconds.
const maxMono = 100 * 366 * 24 * 3600 * 1000

var errNoRequest = errors.New("not a request") // the cause might quote what was sealed

// open takes over what was sealed, given what opening it returned.
func (it *item) open(plain []byte, err error) {
	var q wire.Request
	if err == nil && (json.Unmarshal(plain, &q) != nil || !pickup.Valid(q.Code)) {
		err = errNoRequest
	}
	if err != nil {
		it.row.Judged = NotOpened
		it.alarm = &Alarm{Kind: AlarmNotOpened, Key: it.row.ID.Chain.String(), Text: "a request left at the box does not open; it is kept until the hub has the key"}
		return
	}
	it.request = &q
}

// inTime reports whether a database can hold a time.
func inTime(t time.Time) bool { return t.Year() >= 1970 && t.Year() < 10_000 }

// plainText reports whether a database can hold s as text (PostgreSQL takes no zero byte), and it is short.
func plainText(s string) bool {
	return len(s) <= 128 && utf8.ValidString(s) && !strings.ContainsRune(s, 0)
}
