package ipptest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// extensions of files with documents.
var extensions = map[string]string{pdf: "pdf", urf: "urf", pwg: "pwg"}

// Status is how the printer is, for those who watch it from outside the protocol.
type Status struct {
	Name    string   `json:"name"`
	URI     string   `json:"uri"`
	UUID    string   `json:"uuid"`
	Pin     string   `json:"pin,omitempty"`
	State   string   `json:"state"` // idle | processing | stopped
	Reasons []string `json:"reasons"`
	Paper   int      `json:"paper"`
	Gone    bool     `json:"gone"`
	Asleep  bool     `json:"asleep"`
	Toner   int      `json:"toner"` // percent
	Formats []string `json:"formats"`
	Sheets  int      `json:"sheets"` // that came out so far
}

// Status says how the printer is.
func (p *Printer) Status() Status {
	uri, pin := p.URI(), p.Pin()
	p.mu.Lock()
	defer p.mu.Unlock()
	state, reasons := p.status()
	names := map[int]string{3: "idle", 4: "processing", 5: "stopped"}
	return Status{
		Name: p.cfg.Name, URI: uri, UUID: p.uuid, Pin: pin, State: names[state], Reasons: reasons,
		Paper: p.paper, Gone: p.server == nil, Sheets: len(p.sheets), Asleep: p.asleep, Toner: p.toner,
		Formats: slices.Clone(p.formats),
	}
}

// Control turns the printer's knobs over HTTP, for a printer that is a process of its own:
//
//	POST /paper?n=  /jam?on=  /cover?on=  /busy?on=  /gone?on=  /freeze?on=  (on is true or false)
//	POST /sleep?on=  /stopped?on=  /toner?percent=  /jamafter?sheets=  /cut?after=  /lose?op=  /pagetime?ms=
//	POST /formats?type=…&type=…  /media?name=…&name=…  /reasons?reason=…&reason=…  /substitute?media=  /key  /restart
//	GET  /        how it is (JSON)
//	GET  /sheets  what came out (JSON), oldest first; the document of sheet n, counted from 1, is /sheets/n.pdf when it
//	              is a PDF, else /sheets/n.urf or /sheets/n.pwg
//
// A POST answers with how the printer is then. It has no protection: serve it on a loopback address only.
func (p *Printer) Control() http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			p.cfg.Log.Debug("control not answered", "err", err)
		}
	}
	post := func(path string, do func(r *http.Request) error) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			if err := do(r); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			answer(w, p.Status())
		})
	}
	number := func(name string, set func(int)) func(*http.Request) error {
		return func(r *http.Request) error {
			n, err := strconv.Atoi(r.FormValue(name))
			if err == nil {
				set(n)
			}
			return err
		}
	}
	onOff := func(set func(bool) error) func(*http.Request) error {
		return func(r *http.Request) error {
			on, err := strconv.ParseBool(r.FormValue("on"))
			if err != nil {
				return err
			}
			return set(on)
		}
	}
	always := func(set func(bool)) func(bool) error {
		return func(on bool) error { set(on); return nil }
	}
	post("/paper", number("n", p.SetPaper))
	post("/pagetime", number("ms", func(n int) { p.PageTime(time.Duration(max(0, n)) * time.Millisecond) }))
	post("/cut", number("after", p.CutAfter))
	post("/toner", number("percent", p.Toner))
	post("/jamafter", number("sheets", p.JamAfter))
	post("/stopped", onOff(always(p.Stopped)))
	post("/sleep", onOff(always(p.Sleep)))
	post("/jam", onOff(always(p.Jam)))
	post("/cover", onOff(always(p.Cover)))
	post("/busy", onOff(always(p.Busy)))
	post("/freeze", onOff(always(p.Freeze)))
	post("/gone", onOff(p.Gone))
	post("/formats", func(r *http.Request) error { p.Formats(values(r, "type")...); return nil })
	post("/media", func(r *http.Request) error { p.Media(values(r, "name")...); return nil })
	post("/lose", func(r *http.Request) error { p.LoseAnswer(r.FormValue("op")); return nil })
	post("/reasons", func(r *http.Request) error { p.Reasons(values(r, "reason")...); return nil })
	post("/substitute", func(r *http.Request) error { p.Substitute(r.FormValue("media")); return nil })
	post("/key", func(*http.Request) error { return p.NewKey() })
	post("/restart", func(*http.Request) error { return p.Restart() })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { answer(w, p.Status()) })
	mux.HandleFunc("GET /sheets", func(w http.ResponseWriter, _ *http.Request) { answer(w, p.Sheets()) })
	mux.HandleFunc("GET /sheets/{file}", func(w http.ResponseWriter, r *http.Request) {
		name, ext, _ := strings.Cut(r.PathValue("file"), ".")
		n, err := strconv.Atoi(name)
		sheets := p.Sheets()
		if err != nil || n < 1 || n > len(sheets) || ext != extensions[sheets[n-1].Format] {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", sheets[n-1].Format)
		_, _ = w.Write(sheets[n-1].Document)
	})
	return mux
}

func values(r *http.Request, name string) []string {
	if err := r.ParseForm(); err != nil {
		return nil
	}
	return r.Form[name]
}
