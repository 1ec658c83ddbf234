package loadtest

import (
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"time"

	"sportello.example/sync/event"
	"sportello.example/sync/wire"
)

// Sample is one event of the corpus.
type Sample struct {
	Event event.Event
	JSON  []byte // the same, as Plain writes it
}

// Plain is an event as a program would write it that keeps and sends plain JSON. It says the same as the envelope and
// its body, plus the random name that such a program needs to tell events apart.
type Plain struct {
	ID           string          `json:"id"`
	Box          string          `json:"box"`
	Seq          int64           `json:"seq"`
	Kind         string          `json:"kind"`
	At           string          `json:"at"`
	Boot         int64           `json:"boot"`
	Mono         int64           `json:"mono"`
	Clock        string          `json:"clock"`
	Session      string          `json:"session"`
	Kiosk        int             `json:"kiosk"`
	Mode         string          `json:"mode"`
	Language     string          `json:"language"`
	Step         string          `json:"step,omitempty"`
	Service      string          `json:"service"`
	Recipient    string          `json:"recipient"`
	Certificates []string        `json:"certificates,omitempty"`
	Holder       string          `json:"holder"`
	Stamp        string          `json:"stamp,omitempty"`
	Outcome      string          `json:"outcome,omitempty"`
	Reason       string          `json:"reason,omitempty"`
	Pages        int             `json:"pages,omitempty"`
	Milliseconds int64           `json:"milliseconds,omitempty"`
	Request      json.RawMessage `json:"request,omitempty"` // what is sealed otherwise
}

// Begin is when the first visit of a corpus begins.
var Begin = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

// Corpus makes n events of visits, one after the other, always the same for a seed. One visit in four finds the line
// down and leaves a request, whose Private part is to be sealed: one event in 37 or so.
func Corpus(seed uint64, n int) []Sample {
	return BoxCorpus(seed, "mi-bib-0001", n)
}

// BoxCorpus is Corpus for the box with this name.
func BoxCorpus(seed uint64, box string, n int) []Sample {
	g := &generator{box: box, at: Begin}
	var s [32]byte
	for i := range 8 {
		s[i] = byte(seed >> (8 * i))
	}
	g.r = rand.New(rand.NewChaCha8(s))
	out := make([]Sample, 0, n+32)
	for len(out) < n {
		out = g.visit(out)
	}
	return out[:n]
}

type generator struct {
	r   *rand.Rand
	box string
	at  time.Time
	seq int64
}

func pick[T any](g *generator, of ...T) T { return of[g.r.IntN(len(of))] }

func (g *generator) random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.r.Uint32())
	}
	return b
}

func (g *generator) uuid(b []byte) string {
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// visit appends what one citizen does.
func (g *generator) visit(out []Sample) []Sample {
	session, kiosk := g.uuid(g.random(16)), 1+g.r.IntN(3)
	d := event.Detail{
		Mode: pick(g, "self", "self", "self", "assisted"), Language: pick(g, "it", "it", "it", "en", "zh", "ar", "es", "uk"),
		Service: "certificate", Recipient: pick(g, "private", "public", "utility", "abroad", "court"), Holder: pick(g, "self", "family"),
		Certificates: pick(g, []string{"residenza"}, []string{"stato_famiglia"}, []string{"nascita", "cittadinanza"}, []string{"esistenza_in_vita"}),
		Stamp:        pick(g, "due", "exempt"),
	}
	add := func(k event.Kind, with func(*event.Detail), private []byte) {
		e := event.Event{Kind: k, Session: session, Kiosk: kiosk, Detail: d, Private: private}
		if with != nil {
			with(&e.Detail)
		}
		out = append(out, Sample{Event: e, JSON: g.plain(e)})
	}
	took := func(d *event.Detail) { d.Milliseconds = int64(200 + g.r.IntN(90_000)) }
	paper := func(d *event.Detail) { took(d); d.Pages = 1 + g.r.IntN(3) }
	add(event.SessionStarted, nil, nil)
	for _, step := range []string{"service", "certificates", "recipient", "stamp", "holder"} {
		add(event.StepAnswered, func(d *event.Detail) { d.Step = step; took(d) }, nil)
	}
	if g.r.IntN(4) == 0 {
		request, err := json.Marshal(wire.Request{
			Code: pick(g, "2F7HJM", "QR34VW", "X9CGPM"), Left: g.at, Certificates: d.Certificates, Recipient: d.Recipient, Holder: d.Holder, Language: d.Language,
		})
		if err != nil {
			panic(err) // strings and times always marshal
		}
		add(event.RequestLeft, nil, request)
		add(event.PrintStarted, func(d *event.Detail) { d.Service, d.Pages = "slip", 1 }, nil)
		add(event.PrintDone, func(d *event.Detail) { d.Service = "slip"; paper(d) }, nil)
		add(event.SessionEnded, func(d *event.Detail) { d.Outcome = "request_left"; took(d) }, nil)
		return out
	}
	add(event.LoginShown, nil, nil)
	add(event.LoginCodeOK, took, nil)
	add(event.LoginIdentified, took, nil)
	add(event.DocumentReceived, paper, nil)
	add(event.PrintStarted, paper, nil)
	add(event.PrintDone, paper, nil)
	add(event.SessionEnded, func(d *event.Detail) { d.Outcome = pick(g, "printed", "printed", "abandoned", "ended"); took(d) }, nil)
	return out
}

func (g *generator) plain(e event.Event) []byte {
	g.seq++
	g.at = g.at.Add(time.Duration(200+g.r.IntN(1200)) * time.Millisecond)
	id := g.random(16)
	ms := g.at.UnixMilli()
	for i := range 6 { // UUID version 7: the time first
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	d := e.Detail
	b, err := json.Marshal(Plain{
		ID: g.uuid(id), Box: g.box, Seq: g.seq, Kind: string(e.Kind), At: g.at.Format("2006-01-02T15:04:05.000Z"), Boot: 17,
		Mono: g.at.Sub(Begin).Milliseconds(), Clock: "synced", Session: e.Session, Kiosk: e.Kiosk, Mode: d.Mode, Language: d.Language, Step: d.Step,
		Service: d.Service, Recipient: d.Recipient, Certificates: d.Certificates, Holder: d.Holder, Stamp: d.Stamp, Outcome: d.Outcome,
		Reason: d.Reason, Pages: d.Pages, Milliseconds: d.Milliseconds, Request: e.Private,
	})
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	return b
}
