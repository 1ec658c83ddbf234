package anprtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"sportello.example/sync/wire"
)

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("POST /v1/family", s.family)
	mux.HandleFunc("POST /v1/certificate", s.certificate)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := s.mood()
		s.log.Info("registry asked", "path", r.URL.Path)
		if m.hang > 0 {
			t := time.NewTimer(m.hang)
			defer t.Stop()
			select {
			case <-t.C:
			case <-r.Context().Done():
			case <-s.stop:
			}
		}
		switch {
		case m.down:
			panic(http.ErrAbortHandler) // net/http's way to cut the connection
		case m.status500:
			http.Error(w, "<html>Servizio momentaneamente non disponibile</html>", http.StatusInternalServerError)
		case m.garbage:
			kind := "application/json"
			if r.URL.Path == "/v1/certificate" {
				kind = "application/pdf"
			}
			w.Header().Set("Content-Type", kind)
			_, _ = w.Write([]byte("<!DOCTYPE html>\n<p>Sessione scaduta \xff\x00</p>\n"))
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

// read decodes a question; it has answered when it returns false.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		problem(w, http.StatusBadRequest, wire.ProblemMalformed)
		return false
	}
	return true
}

func problem(w http.ResponseWriter, status int, code string) {
	answer(w, status, wire.Problem{Code: code})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// find returns a citizen whom the registry knows; it has answered when it returns false.
func (s *Server) find(w http.ResponseWriter, code string) (Citizen, bool) {
	c, ok := s.citizens[code]
	if !ok || !c.Registered {
		problem(w, http.StatusNotFound, wire.ProblemNotRegistered)
		return Citizen{}, false
	}
	return c, true
}

// members returns the others of c's family.
func (s *Server) members(c Citizen) []member {
	var ms []member
	for _, r := range c.Family {
		ms = append(ms, member{s.citizens[r.FiscalCode], r.Relation})
	}
	return ms
}

func (s *Server) family(w http.ResponseWriter, r *http.Request) {
	var q struct {
		FiscalCode string `json:"fiscal_code"`
	}
	if !read(w, r, &q) {
		return
	}
	c, ok := s.find(w, q.FiscalCode)
	if !ok {
		return
	}
	type person struct {
		FiscalCode  string `json:"fiscal_code"`
		Name        string `json:"name"`
		FamilyName  string `json:"family_name"`
		YearOfBirth int    `json:"year_of_birth"`
	}
	var a struct {
		Members []person `json:"members"`
	}
	for _, m := range append([]member{{Citizen: c}}, s.members(c)...) {
		a.Members = append(a.Members, person{m.FiscalCode, m.Name, m.FamilyName, m.Birth.Year()})
	}
	answer(w, http.StatusOK, a)
}

type question struct {
	Applicant    string   `json:"applicant"`
	Holder       string   `json:"holder"`
	Certificates []string `json:"certificates"`
	Recipient    string   `json:"recipient"`
	Exemption    int      `json:"exemption"`
	Language     string   `json:"language"` // the kiosk's; certificates of Milan are in Italian whatever it is
}

func (s *Server) certificate(w http.ResponseWriter, r *http.Request) {
	var q question
	if !read(w, r, &q) {
		return
	}
	applicant, ok := s.find(w, q.Applicant)
	if !ok {
		return
	}
	o, err := s.order(applicant, q)
	if errors.Is(err, errRefused) {
		problem(w, http.StatusUnprocessableEntity, wire.ProblemNotCertifiable)
		return
	}
	m := s.mood()
	o.letter = m.letter
	pdf, err := s.issue(o)
	if err != nil {
		s.log.Error("certificate not made", "err", err)
		problem(w, http.StatusInternalServerError, wire.ProblemRegistryDown)
		return
	}
	if m.truncate {
		pdf = pdf[:len(pdf)/2]
	}
	s.remember(pdf, o.at)
	w.Header().Set("Content-Type", "application/pdf")
	w.Header().Set("Content-Length", strconv.Itoa(len(pdf)))
	_, _ = w.Write(pdf)
}

// order makes of a question what is to be certified, or errRefused.
func (s *Server) order(applicant Citizen, q question) (order, error) {
	holder := applicant
	if q.Holder != applicant.FiscalCode {
		if !slices.ContainsFunc(applicant.Family, func(r Relative) bool { return r.FiscalCode == q.Holder }) {
			return order{}, fmt.Errorf("holder of another family: %w", errRefused)
		}
		holder = s.citizens[q.Holder]
	}
	kinds, err := s.types.choose(q.Certificates)
	if err != nil {
		return order{}, err
	}
	for _, k := range kinds {
		if !k.allows(holder, applicant.FiscalCode) {
			return order{}, fmt.Errorf("type %d: %w", k.Code, errRefused)
		}
	}
	o := order{kinds: kinds, holder: holder, family: s.members(holder), recipient: q.Recipient, at: s.now()}
	switch q.Recipient {
	case "private", "abroad", "court":
	default: // a public office must not ask for certificates (art. 40 D.P.R. 445/2000)
		return order{}, fmt.Errorf("recipient: %w", errRefused)
	}
	if q.Exemption != 0 {
		rule, ok := s.types.exemption(q.Exemption)
		if !ok {
			return order{}, fmt.Errorf("exemption %d: %w", q.Exemption, errRefused)
		}
		o.exempt = rule
	}
	o.serial = s.number(o.at)
	return o, nil
}

func (s *Server) issue(o order) ([]byte, error) {
	pdf, err := drawCertificate(o)
	if err != nil {
		return nil, err
	}
	return s.seal.sealPDF(pdf, o.at)
}

// Control lets a demo's console turn the knobs over HTTP: POST /down?on=true (and /garbage, /truncate, /status500,
// /letter), POST /hang?for=60s, GET /issued. It has no guard of its own: serve it on loopback only.
func (s *Server) Control() http.Handler {
	mux := http.NewServeMux()
	for path, knob := range map[string]func(bool){
		"/down": s.Down, "/garbage": s.Garbage, "/truncate": s.Truncate, "/status500": s.Status500, "/letter": s.Letter,
	} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			on, err := strconv.ParseBool(r.FormValue("on"))
			if err != nil {
				http.Error(w, "on must be true or false", http.StatusBadRequest)
				return
			}
			knob(on)
			w.WriteHeader(http.StatusNoContent)
		})
	}
	mux.HandleFunc("POST /hang", func(w http.ResponseWriter, r *http.Request) {
		d, err := time.ParseDuration(r.FormValue("for"))
		if err != nil || d < 0 {
			http.Error(w, "for must be a duration such as 60s", http.StatusBadRequest)
			return
		}
		s.Hang(d)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /issued", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, s.Issued()) })
	return mux
}
