package staff

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// adoptPage lists what could be adopted.
type adoptPage struct {
	Candidates []candidateView
	URI        string // as it was typed
}

// candidateView is a printer that could be adopted, in words.
type candidateView struct {
	ID, Name, Make, URI string
	Source              string
	Old, New            []fingerprint
	Known               bool // it is adopted already …
	Changed             bool // … and answers with another key
	Refused             string
	Can                 bool // it can be adopted, perhaps at a risk
	Risk                bool // only at a risk
	Receipt             bool
	Link                string
}

func (p *page) candidate(c Candidate) candidateView {
	v := candidateView{
		ID: c.ID, Name: c.Name, Make: c.Make, URI: c.URI, Known: c.Known, Receipt: c.Receipt,
		New: fingerprints(strings.Join(c.Keys, ",")), Old: fingerprints(strings.Join(c.OldKeys, ",")),
		Risk: c.Refused == "plain", Can: c.Refused == "" || c.Refused == "plain", Link: at(candidate, "id", c.ID),
	}
	if v.Name == "" {
		v.Name = c.URI
	}
	// Without any key it has changed as well: that it is no longer the one with the key must not look like an old risk.
	v.Changed = c.Known && v.Risk && len(c.OldKeys) > 0 || c.Known && len(c.Keys) > 0 && slices.ContainsFunc(c.Keys, func(k string) bool { return !slices.Contains(c.OldKeys, k) })
	switch c.Source {
	case "dnssd", "manual", "usb":
		v.Source = p.t("staff.source." + c.Source)
	default:
		v.Source = c.Source
	}
	switch c.Refused {
	case "":
	case "plain", "no_a4", "no_format", "raw", "unreachable", "auth", "no_uuid", "duplicate":
		v.Refused = p.t("staff.refused." + c.Refused)
	default:
		v.Refused = p.t("staff.refused.other") + " (" + c.Refused + ")"
	}
	return v
}

func (s *Server) candidates(w http.ResponseWriter, r *http.Request, v *visit) error {
	return s.showCandidates(w, r, v, http.StatusOK, "", "")
}

func (s *Server) showCandidates(w http.ResponseWriter, r *http.Request, v *visit, status int, uri, wrong string) error {
	all, err := s.cfg.Adoptions.Candidates(r.Context())
	if err != nil {
		return fmt.Errorf("candidates: %w", err)
	}
	p := s.page(v, "adopt", adopt)
	d := adoptPage{URI: uri}
	for _, c := range all {
		d.Candidates = append(d.Candidates, p.candidate(c))
	}
	slices.SortStableFunc(d.Candidates, func(a, b candidateView) int { // what somebody has come for comes first
		switch {
		case a.Changed == b.Changed:
			return 0
		case a.Changed:
			return -1
		}
		return 1
	})
	p.Data, p.Said = d, s.sessions.hear(v.session)
	if wrong != "" {
		p.Error = p.t(wrong)
	}
	return s.render(w, status, p)
}

func (s *Server) addCandidate(w http.ResponseWriter, r *http.Request, v *visit) error {
	uri := strings.TrimSpace(r.PostForm.Get("uri"))
	c, err := s.cfg.Adoptions.Add(r.Context(), uri)
	if errors.Is(err, ErrAddress) {
		return s.showCandidates(w, r, v, http.StatusUnprocessableEntity, uri, "staff.adopt.address")
	} else if err != nil {
		return fmt.Errorf("add candidate: %w", err)
	}
	return seeOther(w, r, at(candidate, "id", c.ID))
}

func adoptTask(id string) string { return "adopt " + id }

// candidatePage is what the page of one candidate shows before its page is printed.
type candidatePage struct {
	candidateView
	Why, Until string // as they were typed
	Failed     string // what came of the last try
}

// waitPage is what is shown while the page comes out.
type waitPage struct{ Name string }

// codePage asks for the code on the paper.
type codePage struct {
	ID, Name string
	Left     string
	Ends     string
	Picture  bool // it was printed as a picture: there is nothing else to try
	Receipt  bool
	NotRight bool // somebody said that the page is not right

	Why, Until string // of the risk, as they were typed
}

// candidate shows where the adoption of a printer has got to.
func (s *Server) candidate(w http.ResponseWriter, r *http.Request, v *visit) error {
	id := r.URL.Query().Get("id")
	t, known := s.task(adoptTask(id))
	switch {
	case known && t.running:
		p := s.page(v, "wait", candidate)
		p.Data, p.Mark = waitPage{t.name}, s.taskMark(adoptTask(id))
		p.Self = at(candidate, "id", id)
		p.Anew = p.Self + "&auto=1"
		return s.render(w, http.StatusOK, p)
	case known && t.trial != nil && s.cfg.Now().Before(t.trial.Ends):
		return s.showCode(w, v, id, t, http.StatusOK, "", false)
	}
	return s.showCandidate(w, r, v, id, http.StatusOK, "")
}

// find returns a candidate. ErrGone.
func (s *Server) find(ctx context.Context, id string) (Candidate, error) {
	all, err := s.cfg.Adoptions.Candidates(ctx)
	if err != nil {
		return Candidate{}, fmt.Errorf("candidates: %w", err)
	}
	i := slices.IndexFunc(all, func(c Candidate) bool { return c.ID == id })
	if i < 0 {
		return Candidate{}, ErrGone
	}
	return all[i], nil
}

func (s *Server) showCandidate(w http.ResponseWriter, r *http.Request, v *visit, id string, status int, wrong string) error {
	c, err := s.find(r.Context(), id)
	if err != nil {
		return err
	}
	p := s.page(v, "candidate", candidate)
	d := candidatePage{candidateView: p.candidate(c), Why: r.PostForm.Get("why"), Until: r.PostForm.Get("until")}
	if t, known := s.task(adoptTask(id)); known && t.err != nil {
		d.Failed, _ = t.words(p)
	}
	p.Data, p.Said = d, s.sessions.hear(v.session)
	if wrong != "" {
		p.Error = p.t(wrong)
	}
	return s.render(w, status, p)
}

const maxWhy = 200 // characters of a reason

// begin prints the page with the code.
func (s *Server) begin(w http.ResponseWriter, r *http.Request, v *visit) error {
	id, picture := r.PostForm.Get("id"), r.PostForm.Get("as") == "picture"
	t, known := s.task(adoptTask(id))
	if known && t.running {
		return seeOther(w, r, at(candidate, "id", id))
	}
	c, err := s.find(r.Context(), id)
	if err != nil {
		return err
	}
	var risk *Risk
	if c.Refused == "plain" {
		now := s.cfg.Now()
		until, err := time.ParseInLocation(time.DateOnly, r.PostForm.Get("until"), now.Location())
		why := strings.Join(strings.Fields(r.PostForm.Get("why")), " ")
		until = until.AddDate(0, 0, 1).Add(-time.Second) // the whole of that day
		if err != nil || why == "" || len([]rune(why)) > maxWhy || !until.After(now) || until.After(now.AddDate(1, 0, 0)) {
			return s.showCandidate(w, r, v, id, http.StatusUnprocessableEntity, "staff.risk.wrong")
		}
		risk = &Risk{By: v.who.by, Why: why, At: now.UTC(), Until: until.UTC()}
	}
	by := v.who.by
	s.beginTask(adoptTask(id), task{
		name: c.Name, picture: picture, receipt: c.Receipt, why: r.PostForm.Get("why"), until: r.PostForm.Get("until"),
	}, func(ctx context.Context, done *task) error {
		trial, err := s.cfg.Adoptions.Begin(ctx, id, picture, risk, by)
		if err == nil {
			done.trial = &trial
		}
		return err
	})
	return seeOther(w, r, at(candidate, "id", id))
}

func (s *Server) showCode(w http.ResponseWriter, v *visit, id string, t task, status int, wrong string, notRight bool) error {
	p := s.page(v, "code", candidate)
	d := codePage{
		ID: id, Name: t.trial.Name, Left: p.count("staff.code.left", t.left), Ends: t.trial.Ends.In(p.now.Location()).Format("15:04"),
		Picture: t.picture || t.trial.Format != "application/pdf", Receipt: t.receipt, NotRight: notRight,
		Why: t.why, Until: t.until,
	}
	if wrong != "" {
		p.Error = p.t(wrong)
	}
	p.Data = d
	return s.render(w, status, p)
}

// confirm takes the code. A page that is not right is not confirmed: it can be printed as a picture, and one that was is no
// use.
func (s *Server) confirm(w http.ResponseWriter, r *http.Request, v *visit) error {
	id := r.PostForm.Get("id")
	key := adoptTask(id)
	t, known := s.task(key)
	if !known || t.running || t.trial == nil {
		return seeOther(w, r, at(candidate, "id", id))
	}
	switch r.PostForm.Get("look") {
	case "right":
	case "wrong":
		return s.showCode(w, v, id, t, http.StatusUnprocessableEntity, "staff.code.notright", true)
	default:
		return s.showCode(w, v, id, t, http.StatusUnprocessableEntity, "staff.code.nolook", false)
	}
	p := s.page(v, "code", candidate)
	a, err := s.cfg.Adoptions.Confirm(r.Context(), id, r.PostForm.Get("code"), true, v.who.by)
	switch {
	case err == nil:
		s.forgetTask(key)
		s.said(v, p.t("staff.adopt.done", "name", a.Name))
		return seeOther(w, r, home)
	case errors.Is(err, ErrCode):
		s.changeTask(key, func(t *task) { t.left-- })
		t.left--
		return s.showCode(w, v, id, t, http.StatusUnprocessableEntity, "staff.code.wrong", false)
	case errors.Is(err, ErrGone): // it does not answer just now: the code stays good
		return s.showCode(w, v, id, t, http.StatusUnprocessableEntity, "staff.code.silent", false)
	case errors.Is(err, ErrOver), errors.Is(err, ErrChanged), errors.Is(err, ErrRefused):
		words := "staff.code.over"
		switch {
		case errors.Is(err, ErrChanged):
			words = "staff.code.changed"
		case errors.Is(err, ErrRefused):
			words = "staff.adopt.refused"
		}
		s.cfg.Log.Warn("printer not adopted", "err", err)
		s.forgetTask(key)
		s.said(v, p.t(words))
		return seeOther(w, r, at(candidate, "id", id))
	default:
		return fmt.Errorf("confirm adoption: %w", err)
	}
}
